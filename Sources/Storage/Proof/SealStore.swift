public import Domain
public import LedgerProof
public import PostgresDriver
internal import Synchronization

/// The sealer in PostgreSQL: each round is one transaction, and a round that is cut off in the middle leaves nothing behind.
public final class SealStore: LedgerSealing {
    private let pool: PostgresPool
    private let ring: SigningKeyRing
    private let replaced = Mutex<[String: Replacement]>([:])

    /// How far heads of keys that are distrusted have been signed anew.
    private struct Replacement: Sendable {
        /// Whose heads all are.
        var done: Set<SigningKeyID> = []
        var underWay: Set<SigningKeyID> = []
        var reached = ChainPlace.beginning
    }

    /// - Parameter pool: connections of the role `weir_jobs`.
    public init(pool: PostgresPool, ring: SigningKeyRing) {
        self.pool = pool
        self.ring = ring
    }

    public func sealLedger(limit: Int) async throws(StoreUnavailable) -> SealRound? {
        try await round("ledger") { connection, signer, now in
            let rows = try await connection.execute(ReadUnsealedEntries(limit: Int64(limit)))
            let tips = try await connection.execute(ReadChainTips(tenants: Array(Set(rows.map(\.entry.tenantID)))))
            var sealer = ChainSealer<LedgerEntry>(
                tips: Dictionary(
                    tips.map { (.ledger($0.tenantID), .init(sequence: $0.sequence, hash: $0.hash)) }
                ) { first, _ in first }, signer: signer, at: now)
            for row in rows { try sealer.add(row.entry, to: .ledger(row.entry.tenantID)) }
            try sealer.finish()
            let again = try await self.distrusted("ledger") { after, limit in
                try await connection.execute(
                    ReadDistrustedPlaces(after: after, interval: ChainSealer<LedgerEntry>.headInterval, limit: limit))
            }
            let heads =
                sealer.heads
                + again.compactMap { place in
                    signer.head(of: .ledger(place.tenantID), sequence: place.sequence, hash: place.hash, at: now)
                }
            if let last = rows.last {
                _ = try await connection.execute(InsertSealedEntries(sealed: sealer.sealed.map(\.entry)))
                _ = try await connection.execute(
                    MoveSealWatermark(chain: "ledger", tx: last.tx, entryID: last.entry.entryID.postgres))
            }
            if !heads.isEmpty { _ = try await connection.execute(InsertLedgerHeads(heads: Self.byTenant(heads))) }
            let age = try await connection.execute(ReadUnsealedAge()).first ?? 0
            return SealRound(entries: rows.count, heads: heads.count, unsealedSeconds: age)
        }
    }

    public func sealAudit(limit: Int) async throws(StoreUnavailable) -> SealRound? {
        try await round("audit") { connection, signer, now in
            let rows = try await connection.execute(ReadUnsealedAudit(limit: Int64(limit)))
            let tip = try await connection.execute(ReadAuditTip()).first
            var sealer = ChainSealer<AuditRow>(
                tips: tip.map { [.audit: .init(sequence: $0.sequence, hash: $0.hash)] } ?? [:], signer: signer,
                at: now)
            for row in rows { try sealer.add(row.entry, to: .audit) }
            try sealer.finish()
            let again = try await self.distrusted("audit") { after, limit in
                try await connection.execute(
                    ReadDistrustedAuditPlaces(after: after, interval: ChainSealer<AuditRow>.headInterval, limit: limit))
            }
            let heads =
                sealer.heads
                + again.compactMap { place in
                    signer.head(of: .audit, sequence: place.sequence, hash: place.hash, at: now)
                }
            if let last = rows.last {
                _ = try await connection.execute(InsertSealedAudit(sealed: sealer.sealed.map(\.entry)))
                _ = try await connection.execute(
                    MoveSealWatermark(chain: "audit", tx: last.tx, entryID: last.entry.id.postgres))
            }
            if !heads.isEmpty { _ = try await connection.execute(InsertAuditHeads(heads: heads)) }
            let age = try await connection.execute(ReadUnsealedAuditAge()).first ?? 0
            return SealRound(entries: rows.count, heads: heads.count, unsealedSeconds: age)
        }
    }

    /// One transaction under the chain's lock, with the key that is active in it.
    private func round(
        _ chain: String, _ body: (PostgresConnection, HeadSigner, Timestamp) async throws -> SealRound
    ) async throws(StoreUnavailable) -> SealRound? {
        do {
            if ring.signer == nil { try await ring.reload() }
            return try await pool.transaction { connection -> SealRound? in
                guard let turn = try await connection.execute(TryLockSealer(chain: chain)).first, turn.isOurs else {
                    return nil
                }
                // A rotation that this process has not heard of yet: nothing may be signed with a key that is retired.
                if turn.activeKey == nil || self.ring.signer?.id != turn.activeKey { try await self.ring.reload() }
                guard let signer = self.ring.signer else {
                    throw StoreUnavailable(cause: "the active signing key cannot be opened: was the pepper changed?")
                }
                return try await body(connection, signer, turn.now)
            }
        } catch let error as PostgresTransactionError {
            // What was signed anew in it is not there.
            replaced.withLock { $0[chain] = nil }
            let cause: any Error = error.body ?? (error.cause as (any Error)?) ?? error
            throw Self.unavailable(cause)
        } catch {
            throw Self.unavailable(error)
        }
    }

    private static func unavailable(_ error: any Error) -> StoreUnavailable {
        switch error {
        case let error as StoreUnavailable: error
        case let error as PostgresError: StoreUnavailable(error)
        case let error as ProofFailure: StoreUnavailable(cause: error.reason)
        default: StoreUnavailable(cause: String(reflecting: type(of: error)))
        }
    }

    private static let distrustedLimit: Int64 = 1_000

    /// Looked for only when a key has become distrusted, and until nothing is left; so many in a round.
    private func distrusted(
        _ chain: String, _ read: (ChainPlace, Int64) async throws -> [ChainTipRow]
    ) async throws -> [ChainTipRow] {
        let keys = Set(ring.publicKeys.filter { $0.state == .compromised }.map(\.id))
        var state = replaced.withLock { $0[chain] ?? Replacement() }
        guard !keys.isSubset(of: state.done) else { return [] }
        if state.underWay != keys {
            state.underWay = keys
            state.reached = .beginning
        }
        let places = try await read(state.reached, Self.distrustedLimit)
        if let last = places.last {
            state.reached = ChainPlace(tenantID: last.tenantID, sequence: last.sequence)
        } else {
            state.done = keys
        }
        replaced.withLock { $0[chain] = state }
        return places
    }

    private static func byTenant(_ heads: [SignedHead]) -> [(tenantID: TenantID, head: SignedHead)] {
        heads.compactMap { head in
            guard case .ledger(let tenant) = head.chain else { return nil }
            return (tenant, head)
        }
    }
}
