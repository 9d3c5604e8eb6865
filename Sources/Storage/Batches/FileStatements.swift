internal import Domain
internal import PostgresDriver

private let fileColumns: [PostgresType] = [.uuid, .text, .text, .int8, .timestamptz, .timestamptz]

private func fileRow(_ row: inout PostgresRow) throws(PostgresError) -> StoredFile {
    StoredFile(
        id: FileID(try row.uuid()), purpose: try row.text(), filename: try row.text(), byteCount: try row.int64(),
        createdAt: Timestamp(try row.timestamp()), expiresAt: Timestamp(try row.timestamp()))
}

/// Begins an upload; whether there was a place for one.
struct BeginFile: PostgresStatement {
    static let sql = "SELECT begin_upload($1, $2, $3, $4)"
    static let parameters: [PostgresType] = [.uuid, .uuid, .text, .int4]
    static let columns: [PostgresType] = [.bool]

    let id: FileID
    let tenantID: TenantID
    let filename: String
    let limit: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(filename)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct AppendToFile: PostgresStatement {
    static let sql = "SELECT append_upload($1, $2, $3, $4, $5)"
    static let parameters: [PostgresType] = [.uuid, .uuid, .int4, .bytea, .int8]
    static let columns: [PostgresType] = [.text]

    let id: FileID
    let tenantID: TenantID
    let position: Int32
    let content: [UInt8]
    let tenantLimit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(position)
        binds.append(content)
        binds.append(tenantLimit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

struct CompleteFile: PostgresStatement {
    static let sql = """
        UPDATE files SET is_complete = true WHERE file_id = $1 AND tenant_id = $2 AND NOT is_complete
        RETURNING file_id, purpose, filename, bytes, created_at, expires_at
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = fileColumns

    let id: FileID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> StoredFile { try fileRow(&row) }
}

struct ReadFiles: PostgresStatement {
    static let sql = """
        SELECT file_id, purpose, filename, bytes, created_at, expires_at FROM files
        WHERE tenant_id = $1 AND is_complete AND file_id < $2 AND ($3::text IS NULL OR purpose = $3)
        ORDER BY file_id DESC LIMIT $4
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .text, .int8]
    static let columns = fileColumns

    let tenantID: TenantID
    let after: FileID?
    let purpose: String?
    let limit: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append((after ?? FileID(high: .max, low: .max)).postgres)
        binds.append(purpose)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> StoredFile { try fileRow(&row) }
}

struct ReadFile: PostgresStatement {
    static let sql = """
        SELECT file_id, purpose, filename, bytes, created_at, expires_at FROM files WHERE file_id = $1 AND tenant_id = $2 AND is_complete
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = fileColumns

    let id: FileID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> StoredFile { try fileRow(&row) }
}

struct ReadFilePiece: PostgresStatement {
    static let sql = "SELECT content FROM file_chunks WHERE file_id = $1 AND tenant_id = $2 AND position = $3"
    static let parameters: [PostgresType] = [.uuid, .uuid, .int4]
    static let columns: [PostgresType] = [.bytea]

    let id: FileID
    let tenantID: TenantID
    let position: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(position)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> [UInt8] { try row.bytes() }
}

/// Removes a file that no unended batch reads.
struct RemoveFile: PostgresStatement {
    static let sql = """
        DELETE FROM files f WHERE f.file_id = $1 AND f.tenant_id = $2
            AND NOT EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
            AND (f.is_complete OR f.purpose = 'batch')
        RETURNING f.file_id
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: FileID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> FileID { FileID(try row.uuid()) }
}
