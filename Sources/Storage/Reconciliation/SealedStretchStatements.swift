internal import Domain
internal import PostgresDriver

/// A stretch of a tenant's chain.
struct SealedStretch: Sendable {
    let tenantID: TenantID
    let first: Int64
    let last: Int64
}

/// Which stretches of which chains hold entries whose keys were made in the window, an hour wider at both ends; in the order of tenants.
struct FindSealedStretches: PostgresStatement {
    static let sql = """
        SELECT tenant_id, min(seq), max(seq) FROM sealed_entries
        WHERE entry_id >= uuid_lower_bound($2 - interval '1 hour') AND entry_id < uuid_lower_bound($3 + interval '1 hour')
            AND \(ComparisonText.ofTenant) AND tenant_id > $4
        GROUP BY tenant_id ORDER BY tenant_id LIMIT $5
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz, .uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .int8, .int8]

    let scope: ReconciliationScope
    let after: TenantID
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(scope.tenantID?.postgres)
        binds.append(scope.start.postgres)
        binds.append(scope.end.postgres)
        binds.append(after.postgres)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> SealedStretch {
        SealedStretch(tenantID: TenantID(try row.uuid()), first: try row.int64(), last: try row.int64())
    }
}

/// The places of entries of the window whose keys were made outside of it: corrections, and jobs that waited. In the order of their keys.
struct FindStraySeals: PostgresStatement {
    struct Stray: Sendable {
        let entryID: RequestID
        let tenantID: TenantID
        let sequence: Int64
    }

    static let sql = """
        SELECT e.entry_id, s.tenant_id, s.seq
        FROM (\(ComparisonText.strays)) e JOIN sealed_entries s ON s.entry_id = e.entry_id
        WHERE e.entry_id > $4 ORDER BY e.entry_id LIMIT $5
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz, .uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .uuid, .int8]

    let scope: ReconciliationScope
    let after: RequestID
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(scope.tenantID?.postgres)
        binds.append(scope.start.postgres)
        binds.append(scope.end.postgres)
        binds.append(after.postgres)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Stray {
        Stray(
            entryID: RequestID(try row.uuid()), tenantID: TenantID(try row.uuid()), sequence: try row.int64())
    }
}

/// Seals alone: their entries may be gone.
struct ReadSeals: PostgresStatement {
    struct Seal: Sendable {
        let sequence: Int64
        let entryID: RequestID
        let hash: ProofHash
    }

    static let sql = """
        SELECT seq, entry_id, hash FROM sealed_entries WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .int8, .int8, .int8]
    static let columns: [PostgresType] = [.int8, .uuid, .bytea]

    let tenantID: TenantID
    let after: Int64
    let end: Int64
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(after)
        binds.append(end)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Seal {
        Seal(sequence: try row.int64(), entryID: RequestID(try row.uuid()), hash: try row.proofHash())
    }
}

/// All heads of a stretch, also of keys that are distrusted, each with the hash of its seal; behind the head of a place and a key.
struct ReadHeadsOfSeals: PostgresStatement {
    static let sql = """
        SELECT h.seq, h.hash, h.signed_at, h.key_id, h.signature, s.hash
        FROM ledger_heads h LEFT JOIN sealed_entries s ON s.tenant_id = h.tenant_id AND s.seq = h.seq
        WHERE h.tenant_id = $1 AND (h.seq, h.key_id) > ($2, $3) AND h.seq <= $4 ORDER BY h.seq, h.key_id LIMIT $5
        """
    static let parameters: [PostgresType] = [.uuid, .int8, .text, .int8, .int8]
    static let columns: [PostgresType] = HeadRow.types + [.bytea]

    let tenantID: TenantID
    let after: Int64
    let afterKey: String
    let end: Int64
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(after)
        binds.append(afterKey)
        binds.append(end)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (head: HeadRow, seal: ProofHash?) {
        (try HeadRow(&row), try row.optionalBytes().flatMap { ProofHash(bytes: $0) })
    }
}

/// Whether a chain has a head behind a place: then there was a seal.
struct HasHeadBehind: PostgresStatement {
    static let sql = "SELECT EXISTS (SELECT FROM ledger_heads WHERE tenant_id = $1 AND seq > $2)"
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [.bool]

    let tenantID: TenantID
    let sequence: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(sequence)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}
