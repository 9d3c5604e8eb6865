internal import Domain
internal import PostgresDriver

/// Places whose only heads are of keys that somebody else may have: the tips, and those that bound how far a proof reaches. With the hashes of the seals,
/// because those heads may be anybody's word. In order, behind a place.
struct ReadDistrustedPlaces: PostgresStatement {
    static let sql = """
        SELECT DISTINCT h.tenant_id, h.seq, s.hash
        FROM signing_keys k JOIN ledger_heads h ON h.key_id = k.key_id
        JOIN sealed_entries s ON s.tenant_id = h.tenant_id AND s.seq = h.seq
        WHERE k.state = 'compromised' AND (h.tenant_id, h.seq) > ($1, $2)
            AND (h.seq % $3 = 0 OR NOT EXISTS (SELECT FROM sealed_entries n WHERE n.tenant_id = h.tenant_id AND n.seq > h.seq))
            AND NOT EXISTS (
                SELECT FROM ledger_heads n JOIN signing_keys m ON m.key_id = n.key_id
                WHERE n.tenant_id = h.tenant_id AND n.seq = h.seq AND m.state <> 'compromised')
        ORDER BY h.tenant_id, h.seq LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .int8, .int8, .int8]
    static let columns: [PostgresType] = [.uuid, .int8, .bytea]

    let after: ChainPlace
    let interval: Int64
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(after.tenantID.postgres)
        binds.append(after.sequence)
        binds.append(interval)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ChainTipRow { try ChainTipRow(&row) }
}

/// A place in a chain; of the audit log's the tenant says nothing.
struct ChainPlace: Sendable {
    static let beginning = ChainPlace(tenantID: TenantID(high: 0, low: 0), sequence: 0)

    let tenantID: TenantID
    let sequence: Int64
}

struct ReadDistrustedAuditPlaces: PostgresStatement {
    static let sql = """
        SELECT DISTINCT '00000000-0000-0000-0000-000000000000'::uuid, h.seq, s.hash
        FROM signing_keys k JOIN audit_heads h ON h.key_id = k.key_id JOIN sealed_audit s ON s.seq = h.seq
        WHERE k.state = 'compromised' AND h.seq > $1
            AND (h.seq % $2 = 0 OR NOT EXISTS (SELECT FROM sealed_audit n WHERE n.seq > h.seq))
            AND NOT EXISTS (
                SELECT FROM audit_heads n JOIN signing_keys m ON m.key_id = n.key_id
                WHERE n.seq = h.seq AND m.state <> 'compromised')
        ORDER BY h.seq LIMIT $3
        """
    static let parameters: [PostgresType] = [.int8, .int8, .int8]
    static let columns: [PostgresType] = [.uuid, .int8, .bytea]

    let after: ChainPlace
    let interval: Int64
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(after.sequence)
        binds.append(interval)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ChainTipRow { try ChainTipRow(&row) }
}
