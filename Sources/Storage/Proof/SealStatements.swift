internal import Domain
internal import PostgresDriver

/// One process seals a chain at a time; who comes second goes away. Says with which key, and what time it is.
struct TryLockSealer: PostgresStatement {
    struct Turn: Sendable {
        let isOurs: Bool
        let now: Timestamp
        let activeKey: SigningKeyID?
    }

    static let sql = """
        SELECT pg_try_advisory_xact_lock(hashtext('weir.seal_' || $1)), clock_timestamp(),
            (SELECT key_id FROM signing_keys WHERE state = 'active')
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.bool, .timestamptz, .text]

    let chain: String

    func bind(to binds: inout PostgresBinds) { binds.append(chain) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Turn {
        Turn(
            isOurs: try row.bool(), now: Timestamp(try row.timestamp()),
            activeKey: try row.optionalText().flatMap { SigningKeyID($0) })
    }
}

/// The columns of a ledger entry, and how they are read.
enum LedgerEntryColumns {
    static let text = """
        e.entry_id, e.tenant_id, e.user_id, e.key_id, e.request_id, e.kind, e.model, e.model_version, e.tier_version_id, e.lease_id,
            e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens, e.token_source, e.occurred_at, e.posted_at,
            e.served_input_tokens, e.served_output_tokens, array_to_string(e.tags, ',', '')
        """
    static let types: [PostgresType] = [
        .uuid, .uuid, .uuid, .uuid, .uuid, .text, .text, .text, .uuid, .uuid, .int8, .int8, .int8, .int8, .text,
        .timestamptz, .timestamptz, .int8, .int8, .text,
    ]

    static func read(_ row: inout PostgresRow) throws(PostgresError) -> LedgerEntry {
        LedgerEntry(
            entryID: RequestID(try row.uuid()), tenantID: TenantID(try row.uuid()),
            userID: try row.optionalUUID().map { UserID($0) }, keyID: KeyID(try row.uuid()),
            requestID: RequestID(try row.uuid()), kind: try row.text(), model: try row.text(),
            modelVersion: try row.text(), tierVersionID: TierVersionID(try row.uuid()),
            leaseID: try row.optionalUUID().map { LeaseID($0) }, requests: try row.int64(),
            inputTokens: try row.int64(), cachedInputTokens: try row.int64(), outputTokens: try row.int64(),
            tokenSource: try row.text(), occurredAt: Timestamp(try row.timestamp()),
            postedAt: Timestamp(try row.timestamp()), servedInputTokens: try row.int64(),
            servedOutputTokens: try row.int64(), tags: try row.optionalText())
    }
}

/// The columns of an entry of the audit log.
enum AuditColumns {
    static let text =
        "a.audit_id, a.at, a.actor, a.action, a.subject_type, a.subject_id, a.tenant_id, a.before, a.after"
    static let types: [PostgresType] = [.uuid, .timestamptz, .text, .text, .text, .text, .uuid, .jsonb, .jsonb]

    static func read(_ row: inout PostgresRow) throws(PostgresError) -> AuditRow {
        AuditRow(
            id: AuditID(try row.uuid()), at: Timestamp(try row.timestamp()), actor: try row.text(),
            action: try row.text(), subjectType: try row.text(), subjectID: try row.text(),
            tenantID: try row.optionalUUID().map { TenantID($0) }, before: try row.optionalJSONText(),
            after: try row.optionalJSONText())
    }
}

/// What is to be sealed next, in the order of transactions and ids: all below the oldest transaction that still runs, so that a late commit
/// cannot be passed over.
struct ReadUnsealedEntries: PostgresStatement {
    static let sql = """
        SELECT \(LedgerEntryColumns.text), e.tx
        FROM ledger e
        WHERE e.tx >= (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'ledger')
            AND e.tx < pg_snapshot_xmin(pg_current_snapshot())
            AND (e.tx > (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'ledger')
                OR e.entry_id > (SELECT w.entry_id FROM seal_watermarks w WHERE w.chain = 'ledger'))
        ORDER BY e.tx, e.entry_id LIMIT $1
        """
    static let parameters: [PostgresType] = [.int8]
    static let columns: [PostgresType] = LedgerEntryColumns.types + [.xid8]

    let limit: Int64

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (entry: LedgerEntry, tx: UInt64) {
        (try LedgerEntryColumns.read(&row), try row.xid8())
    }
}

struct ReadUnsealedAudit: PostgresStatement {
    static let sql = """
        SELECT \(AuditColumns.text), a.tx
        FROM audit_log a
        WHERE a.tx >= (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'audit')
            AND a.tx < pg_snapshot_xmin(pg_current_snapshot())
            AND (a.tx > (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'audit')
                OR a.audit_id > (SELECT w.entry_id FROM seal_watermarks w WHERE w.chain = 'audit'))
        ORDER BY a.tx, a.audit_id LIMIT $1
        """
    static let parameters: [PostgresType] = [.int8]
    static let columns: [PostgresType] = AuditColumns.types + [.xid8]

    let limit: Int64

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (entry: AuditRow, tx: UInt64) {
        (try AuditColumns.read(&row), try row.xid8())
    }
}

/// Where a chain stands.
struct ChainTipRow: Sendable {
    let tenantID: TenantID
    let sequence: Int64
    let hash: ProofHash

    init(_ row: inout PostgresRow) throws(PostgresError) {
        tenantID = TenantID(try row.uuid())
        sequence = try row.int64()
        hash = try row.proofHash()
    }
}

extension PostgresRow {
    mutating func proofHash() throws(PostgresError) -> ProofHash {
        guard let hash = ProofHash(bytes: try bytes()) else { throw failure(0, "is no hash") }
        return hash
    }
}

struct ReadChainTips: PostgresStatement {
    static let sql = """
        SELECT t.id, s.seq, s.hash FROM unnest($1) AS t (id)
        CROSS JOIN LATERAL (SELECT seq, hash FROM sealed_entries WHERE tenant_id = t.id ORDER BY seq DESC LIMIT 1) s
        """
    static let parameters: [PostgresType] = [.uuidArray]
    static let columns: [PostgresType] = [.uuid, .int8, .bytea]

    let tenants: [TenantID]

    func bind(to binds: inout PostgresBinds) { binds.append(tenants.map(\.postgres)) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ChainTipRow { try ChainTipRow(&row) }
}

struct ReadAuditTip: PostgresStatement {
    static let sql = """
        SELECT '00000000-0000-0000-0000-000000000000'::uuid, seq, hash FROM sealed_audit ORDER BY seq DESC LIMIT 1
        """
    static let columns: [PostgresType] = [.uuid, .int8, .bytea]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ChainTipRow { try ChainTipRow(&row) }
}

struct InsertSealedEntries: PostgresStatement {
    static let sql = """
        INSERT INTO sealed_entries (tenant_id, seq, entry_id, hash) SELECT * FROM unnest($1, $2, $3, $4)
        """
    static let parameters: [PostgresType] = [.uuidArray, .int8Array, .uuidArray, .byteaArray]

    let sealed: [Sealed<LedgerEntry>]

    func bind(to binds: inout PostgresBinds) {
        binds.append(sealed.map(\.entry.tenantID.postgres))
        binds.append(sealed.map(\.sequence))
        binds.append(sealed.map(\.entry.entryID.postgres))
        binds.append(sealed.map(\.hash.bytes))
    }
}

struct InsertSealedAudit: PostgresStatement {
    static let sql = """
        INSERT INTO sealed_audit (seq, audit_id, tenant_id, hash) SELECT * FROM unnest($1, $2, $3, $4)
        """
    static let parameters: [PostgresType] = [.int8Array, .uuidArray, .uuidArray, .byteaArray]

    let sealed: [Sealed<AuditRow>]

    func bind(to binds: inout PostgresBinds) {
        binds.append(sealed.map(\.sequence))
        binds.append(sealed.map(\.entry.id.postgres))
        binds.appendArray(of: .uuid, count: sealed.count) { array in
            for one in sealed { array.append(one.entry.tenantID?.postgres) }
        }
        binds.append(sealed.map(\.hash.bytes))
    }
}

struct InsertLedgerHeads: PostgresStatement {
    static let sql = """
        INSERT INTO ledger_heads (tenant_id, seq, hash, signed_at, key_id, signature) SELECT * FROM unnest($1, $2, $3, $4, $5, $6)
        """
    static let parameters: [PostgresType] = [
        .uuidArray, .int8Array, .byteaArray, .timestamptzArray, .textArray, .byteaArray,
    ]

    let heads: [(tenantID: TenantID, head: SignedHead)]

    func bind(to binds: inout PostgresBinds) {
        binds.append(heads.map(\.tenantID.postgres))
        bindHeads(heads.map(\.head), to: &binds)
    }
}

struct InsertAuditHeads: PostgresStatement {
    static let sql = """
        INSERT INTO audit_heads (seq, hash, signed_at, key_id, signature) SELECT * FROM unnest($1, $2, $3, $4, $5)
        """
    static let parameters: [PostgresType] = [.int8Array, .byteaArray, .timestamptzArray, .textArray, .byteaArray]

    let heads: [SignedHead]

    func bind(to binds: inout PostgresBinds) { bindHeads(heads, to: &binds) }
}

private func bindHeads(_ heads: [SignedHead], to binds: inout PostgresBinds) {
    binds.append(heads.map(\.sequence))
    binds.append(heads.map(\.hash.bytes))
    binds.append(heads.map(\.signedAt.postgres))
    binds.append(heads.map(\.keyID.description))
    binds.append(heads.map(\.signature))
}

struct MoveSealWatermark: PostgresStatement {
    static let sql = "UPDATE seal_watermarks SET tx = $2, entry_id = $3 WHERE chain = $1"
    static let parameters: [PostgresType] = [.text, .xid8, .uuid]

    let chain: String
    let tx: UInt64
    let entryID: PostgresUUID

    func bind(to binds: inout PostgresBinds) {
        binds.append(chain)
        binds.appendXID8(tx)
        binds.append(entryID)
    }
}

/// The age in seconds of the oldest entry behind the watermark.
struct ReadUnsealedAge: PostgresStatement {
    static let sql = """
        SELECT greatest(0, extract(epoch FROM clock_timestamp() - e.posted_at))::bigint
        FROM ledger e
        WHERE e.tx >= (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'ledger')
            AND (e.tx > (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'ledger')
                OR e.entry_id > (SELECT w.entry_id FROM seal_watermarks w WHERE w.chain = 'ledger'))
        ORDER BY e.tx, e.entry_id LIMIT 1
        """
    static let columns: [PostgresType] = [.int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

struct ReadUnsealedAuditAge: PostgresStatement {
    static let sql = """
        SELECT greatest(0, extract(epoch FROM clock_timestamp() - a.at))::bigint
        FROM audit_log a
        WHERE a.tx >= (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'audit')
            AND (a.tx > (SELECT w.tx FROM seal_watermarks w WHERE w.chain = 'audit')
                OR a.audit_id > (SELECT w.entry_id FROM seal_watermarks w WHERE w.chain = 'audit'))
        ORDER BY a.tx, a.audit_id LIMIT 1
        """
    static let columns: [PostgresType] = [.int8]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}
