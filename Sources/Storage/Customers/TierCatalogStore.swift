public import Domain
public import PostgresDriver

/// Reads the tiers that a customer may take, under row-level security.
public struct TierCatalogStore: TierCatalog {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reader`, or of `weir_reports`, which row-level security does not narrow.
    public init(pool: PostgresPool) { self.pool = pool }

    public func tiers(for tenant: TenantID) async throws(StoreUnavailable) -> [TierRow] {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenant), ListTiersOfTenant(tenantID: tenant)).1
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func tierVersion(
        _ id: TierVersionID, for tenant: TenantID
    ) async throws(StoreUnavailable) -> TierRow? {
        do throws(PostgresError) {
            return try await pool.pipeline(
                ActAsTenant(tenantID: tenant), FindTierVersionOfTenant(id: id, tenantID: tenant)
            )
            .1.first
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
