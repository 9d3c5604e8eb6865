public import Domain
public import PostgresDriver

/// Reads price sheets.
public struct PriceStore: PriceSource {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_directory`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet? {
        do throws(PostgresError) {
            return try await pool.execute(ReadPrices(id: id)).first.map { row in
                PriceSheet(
                    terms: row.terms, cacheHitTokenPercent: row.version.offer.cacheHitTokenPercent,
                    streamLeave: row.version.offer.streamLeave, requestTerms: row.version.offer.requestTerms)
            }
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

/// A version that was published.
struct ReadPrices: PostgresStatement {
    static let sql = "SELECT o.* FROM tier_offers o WHERE o.tier_version_id = $1 AND o.state <> 'draft'"
    static let parameters: [PostgresType] = [.uuid]
    static let columns = tierOfferColumns

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}
