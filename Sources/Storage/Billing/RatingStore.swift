public import Domain
public import PostgresDriver

/// Reads what is rated. What is of one tenant is read with the tenant named to row-level security, so that it serves customers, too.
public struct RatingStore: RatingRecords {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reports`, or of `weir_reader` for one tenant's own.
    public init(pool: PostgresPool) { self.pool = pool }

    public func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount? {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenant), FindBillingAccount(tenantID: tenant)).1.first
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func currentVersion(of tenant: TenantID) async throws(StoreUnavailable) -> TierVersionID? {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenant), FindCurrentVersion(tenantID: tenant)).1.first
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func accounts(after: TenantID?, limit: Int) async throws(StoreUnavailable) -> [BillingAccount] {
        do throws(PostgresError) {
            return try await pool.execute(ListBillingAccounts(after: after, limit: limit))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func input(_ tenant: TenantID, _ period: Period) async throws(StoreUnavailable) -> RatingInput {
        do throws(PostgresError) {
            return try await pool.ratingInput(of: tenant, period)
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms] {
        do throws(PostgresError) {
            let (heads, prices, multipliers) = try await pool.pipeline(
                ReadTermsHeads(versions: versions), ReadTermsPrices(versions: versions),
                ReadTermsMultipliers(versions: versions))
            return TermsAssembly.terms(heads, prices, multipliers)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

extension PostgresPool {
    /// What is rated of a tenant, with the tenant named to row-level security: a tier can be this tenant's alone.
    func ratingInput(of tenant: TenantID, _ period: Period) async throws(PostgresError) -> RatingInput {
        let parts = try await pipeline(
            ActAsTenant(tenantID: tenant), ReadRatingParts(tenantID: tenant, start: period.start, end: period.end)
        ).1
        return RatingInput(
            spans: parts.compactMap(\.span), usage: parts.compactMap(\.usage),
            terms: try await terms(Set(parts.map(\.tierVersionID)).sorted(), of: tenant))
    }

    /// The terms of versions that a tenant is or was on.
    func terms(
        _ versions: [TierVersionID], of tenant: TenantID
    ) async throws(PostgresError) -> [TierVersionID: TierTerms] {
        let (_, heads, prices, multipliers) = try await pipeline(
            ActAsTenant(tenantID: tenant), ReadTermsHeads(versions: versions), ReadTermsPrices(versions: versions),
            ReadTermsMultipliers(versions: versions))
        return TermsAssembly.terms(heads, prices, multipliers)
    }
}

/// Puts the rows of tier versions together.
enum TermsAssembly {
    static func terms(
        _ heads: [ReadTermsHeads.Head], _ prices: [ReadTermsPrices.Entry], _ multipliers: [ReadTermsMultipliers.Entry]
    ) -> [TierVersionID: TierTerms] {
        let prices = Dictionary(grouping: prices, by: \.tierVersionID)
        let multipliers = Dictionary(grouping: multipliers, by: \.tierVersionID)
        var terms: [TierVersionID: TierTerms] = [:]
        for head in heads {
            terms[head.tierVersionID] = TierTerms(
                tierVersionID: head.tierVersionID, tierCode: head.tierCode, version: head.version,
                currency: head.currency, baseFee: head.baseFee, minimumCommitment: head.minimumCommitment,
                includedRequests: head.includedRequests, includedTokens: head.includedTokens,
                rules: (prices[head.tierVersionID] ?? []).map(\.rule),
                multipliers: (multipliers[head.tierVersionID] ?? []).map(\.multiplier),
                cacheHitTokenPercent: head.cacheHitTokenPercent, streamLeave: head.streamLeave,
                requestTerms: head.requestTerms)
        }
        return terms
    }
}
