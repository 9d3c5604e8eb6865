public import Domain
public import PostgresDriver

/// Reads what is rated.
public struct RatingStore: RatingRecords {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reports` or `weir_admin`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func account(_ tenant: TenantID) async throws(StoreUnavailable) -> BillingAccount? {
        do throws(PostgresError) {
            return try await pool.execute(FindBillingAccount(tenantID: tenant)).first
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
            let parts = try await pool.execute(ReadRatingParts(tenantID: tenant, start: period.start, end: period.end))
            let versions = Set(parts.map(\.tierVersionID)).sorted()
            return RatingInput(
                spans: parts.compactMap(\.span), usage: parts.compactMap(\.usage), terms: try await read(versions))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func terms(_ versions: [TierVersionID]) async throws(StoreUnavailable) -> [TierVersionID: TierTerms] {
        do throws(PostgresError) {
            return try await read(versions)
        } catch {
            throw StoreUnavailable(error)
        }
    }

    private func read(_ versions: [TierVersionID]) async throws(PostgresError) -> [TierVersionID: TierTerms] {
        let (heads, prices, multipliers) = try await pool.pipeline(
            ReadTermsHeads(versions: versions), ReadTermsPrices(versions: versions),
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
                multipliers: (multipliers[head.tierVersionID] ?? []).map(\.multiplier))
        }
        return terms
    }
}
