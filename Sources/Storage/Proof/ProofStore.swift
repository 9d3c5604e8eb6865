public import Domain
internal import LedgerProof
public import PostgresDriver

/// A customer's reads of its sealed ledger. Each runs in one transaction with the tenant set; what is sealed never changes, so several reads
/// see one state.
public struct ProofStore: LedgerProofRecords {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reader`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func head(tenantID: TenantID) async throws(StoreUnavailable) -> SignedHead? {
        try await read(ReadLastHead(tenantID: tenantID), as: tenantID).first?.head(of: .ledger(tenantID))
    }

    public func entries(
        after sequence: Int64, through end: Int64, limit: Int, tenantID: TenantID
    ) async throws(StoreUnavailable) -> ChainPage<LedgerEntry> {
        let entries = try await read(
            ReadSealedEntries(tenantID: tenantID, after: sequence, end: end, limit: Int64(limit)), as: tenantID)
        guard let last = entries.last?.sequence else { return ChainPage(entries: [], heads: []) }
        let heads = try await read(
            ReadHeads(tenantID: tenantID, after: sequence, end: last, limit: Int64(limit)), as: tenantID)
        return ChainPage(entries: entries, heads: heads.map { $0.head(of: .ledger(tenantID)) })
    }

    public func hash(at sequence: Int64, tenantID: TenantID) async throws(StoreUnavailable) -> ProofHash? {
        try await read(ReadChainHash(tenantID: tenantID, sequence: sequence), as: tenantID).first
    }

    public func proof(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> EntryProofAnswer {
        // Heads stand no farther apart. After a key was distrusted they may for a while, and a proof waits for the new ones.
        let find = FindProofPlace(
            tenantID: tenantID, requestID: id, span: ChainSealer<LedgerEntry>.headInterval)
        guard let place = try await read(find, as: tenantID).first else { return .unknown }
        guard let sequence = place.sequence, let end = place.headSequence else { return .notSealed }
        let page = try await entries(
            after: sequence - 1, through: end, limit: Int(end - sequence + 1), tenantID: tenantID)
        guard let head = page.heads.last, head.sequence == end else { return .notSealed }
        let previous = sequence > 1 ? try await hash(at: sequence - 1, tenantID: tenantID) : nil
        return .proved(EntryProof(previousHash: previous, entries: page.entries, head: head))
    }

    public func audit(
        tenantID: TenantID, _ page: PageRequest<AuditID>
    ) async throws(StoreUnavailable) -> Page<PlacedAuditRow> {
        var rows = try await read(ListTenantAudit(tenantID: tenantID, page: page), as: tenantID)
        let hasMore = rows.count > page.limit
        if hasMore { if page.before == nil { rows.removeLast() } else { rows.removeFirst() } }
        return Page(rows, hasMore: hasMore)
    }

    private func read<S: PostgresStatement>(
        _ statement: S, as tenantID: TenantID
    ) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenantID), statement).1
        } catch {
            throw StoreUnavailable(error)
        }
    }
}
