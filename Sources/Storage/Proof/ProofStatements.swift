internal import Domain
internal import PostgresDriver

/// A head as it is kept, but for whose it is. Heads of keys that somebody else may have are nobody's word any more and are left out.
struct HeadRow: Sendable {
    let sequence: Int64
    let hash: ProofHash
    let signedAt: Timestamp
    let keyID: SigningKeyID
    let signature: [UInt8]

    static let types: [PostgresType] = [.int8, .bytea, .timestamptz, .text, .bytea]

    init(_ row: inout PostgresRow) throws(PostgresError) {
        sequence = try row.int64()
        hash = try row.proofHash()
        signedAt = Timestamp(try row.timestamp())
        guard let keyID = SigningKeyID(try row.text()) else { throw row.failure(3, "is no id of a signing key") }
        self.keyID = keyID
        signature = try row.bytes()
    }

    func head(of chain: ProofChain) -> SignedHead {
        SignedHead(
            chain: chain, sequence: sequence, hash: hash, signedAt: signedAt, keyID: keyID, signature: signature)
    }
}

struct ReadLastHead: PostgresStatement {
    static let sql = """
        SELECT h.seq, h.hash, h.signed_at, h.key_id, h.signature
        FROM ledger_heads h JOIN signing_keys k ON k.key_id = h.key_id
        WHERE h.tenant_id = $1 AND k.state <> 'compromised' ORDER BY h.seq DESC, h.signed_at DESC LIMIT 1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = HeadRow.types

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> HeadRow { try HeadRow(&row) }
}

/// Heads of a stretch of a chain, one for each place.
struct ReadHeads: PostgresStatement {
    static let sql = """
        SELECT DISTINCT ON (h.seq) h.seq, h.hash, h.signed_at, h.key_id, h.signature
        FROM ledger_heads h JOIN signing_keys k ON k.key_id = h.key_id
        WHERE h.tenant_id = $1 AND h.seq > $2 AND h.seq <= $3 AND k.state <> 'compromised'
        ORDER BY h.seq, h.signed_at DESC LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .int8, .int8, .int8]
    static let columns = HeadRow.types

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

    static func row(from row: inout PostgresRow) throws(PostgresError) -> HeadRow { try HeadRow(&row) }
}

struct ReadSealedEntries: PostgresStatement {
    static let sql = """
        SELECT \(LedgerEntryColumns.text), s.seq, s.hash
        FROM sealed_entries s JOIN ledger e ON e.entry_id = s.entry_id
        WHERE s.tenant_id = $1 AND s.seq > $2 AND s.seq <= $3 ORDER BY s.seq LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .int8, .int8, .int8]
    static let columns: [PostgresType] = LedgerEntryColumns.types + [.int8, .bytea]

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

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Sealed<LedgerEntry> {
        let entry = try LedgerEntryColumns.read(&row)
        return Sealed(sequence: try row.int64(), entry: entry, hash: try row.proofHash())
    }
}

struct ReadChainHash: PostgresStatement {
    static let sql = "SELECT hash FROM sealed_entries WHERE tenant_id = $1 AND seq = $2"
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [.bytea]

    let tenantID: TenantID
    let sequence: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(sequence)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ProofHash { try row.proofHash() }
}

/// Where a request's entry stands, and the next head behind it; NULL where it is not sealed, or where heads are being signed anew.
struct FindProofPlace: PostgresStatement {
    struct Place: Sendable {
        let sequence: Int64?
        let headSequence: Int64?
    }

    static let sql = """
        SELECT s.seq, (
            SELECT h.seq FROM ledger_heads h JOIN signing_keys k ON k.key_id = h.key_id
            WHERE h.tenant_id = s.tenant_id AND h.seq >= s.seq AND h.seq < s.seq + $3 AND k.state <> 'compromised' ORDER BY h.seq LIMIT 1)
        FROM ledger e LEFT JOIN sealed_entries s ON s.entry_id = e.entry_id
        WHERE e.entry_id = $2 AND e.tenant_id = $1
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8]
    static let columns: [PostgresType] = [.int8, .int8]

    let tenantID: TenantID
    let requestID: RequestID
    /// Entries from this one to the head, at most.
    let span: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(requestID.postgres)
        binds.append(span)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Place {
        Place(sequence: try row.optionalInt64(), headSequence: try row.optionalInt64())
    }
}

/// A tenant's part of the audit log, newest first, with the places in the installation's chain.
struct ListTenantAudit: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT audit_id FROM audit_log
            WHERE $3::uuid IS NULL AND tenant_id = $1 AND audit_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY audit_id DESC LIMIT $4)
            UNION ALL
            (SELECT audit_id FROM audit_log WHERE tenant_id = $1 AND audit_id > $3::uuid ORDER BY audit_id LIMIT $4)
        )
        SELECT \(AuditColumns.text), s.seq, s.hash
        FROM page JOIN audit_log a USING (audit_id) LEFT JOIN sealed_audit s ON s.audit_id = a.audit_id
        ORDER BY a.audit_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .int8]
    static let columns: [PostgresType] = AuditColumns.types + [.int8, .bytea]

    let tenantID: TenantID
    let page: PageRequest<AuditID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PlacedAuditRow {
        let entry = try AuditColumns.read(&row)
        return PlacedAuditRow(
            row: entry, sequence: try row.optionalInt64(),
            hash: try row.optionalBytes().flatMap { ProofHash(bytes: $0) })
    }
}

struct ReadLastAuditHead: PostgresStatement {
    static let sql = """
        SELECT h.seq, h.hash, h.signed_at, h.key_id, h.signature
        FROM audit_heads h JOIN signing_keys k ON k.key_id = h.key_id
        WHERE k.state <> 'compromised' ORDER BY h.seq DESC, h.signed_at DESC LIMIT 1
        """
    static let columns = HeadRow.types

    static func row(from row: inout PostgresRow) throws(PostgresError) -> HeadRow { try HeadRow(&row) }
}

struct ReadAuditHeads: PostgresStatement {
    static let sql = """
        SELECT DISTINCT ON (h.seq) h.seq, h.hash, h.signed_at, h.key_id, h.signature
        FROM audit_heads h JOIN signing_keys k ON k.key_id = h.key_id
        WHERE h.seq > $1 AND h.seq <= $2 AND k.state <> 'compromised' ORDER BY h.seq, h.signed_at DESC LIMIT $3
        """
    static let parameters: [PostgresType] = [.int8, .int8, .int8]
    static let columns = HeadRow.types

    let after: Int64
    let end: Int64
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(after)
        binds.append(end)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> HeadRow { try HeadRow(&row) }
}

struct ReadSealedAudit: PostgresStatement {
    static let sql = """
        SELECT \(AuditColumns.text), s.seq, s.hash
        FROM sealed_audit s JOIN audit_log a ON a.audit_id = s.audit_id
        WHERE s.seq > $1 AND s.seq <= $2 ORDER BY s.seq LIMIT $3
        """
    static let parameters: [PostgresType] = [.int8, .int8, .int8]
    static let columns: [PostgresType] = AuditColumns.types + [.int8, .bytea]

    let after: Int64
    let end: Int64
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(after)
        binds.append(end)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Sealed<AuditRow> {
        let entry = try AuditColumns.read(&row)
        return Sealed(sequence: try row.int64(), entry: entry, hash: try row.proofHash())
    }
}
