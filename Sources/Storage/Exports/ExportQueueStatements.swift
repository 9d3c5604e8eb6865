internal import Domain
internal import PostgresDriver

struct ClaimExport: PostgresStatement {
    static let sql = """
        SELECT export_id, tenant_id, format, granularity, window_start, window_end, is_incremental, from_position, to_position, part_rows,
            attempt, parts, reached
        FROM claim_export($1)
        """
    static let parameters: [PostgresType] = [.int8]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .text, .text, .timestamptz, .timestamptz, .bool, .xid8, .xid8, .int4, .int4, .int4, .uuid,
    ]

    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) { binds.append(leaseMilliseconds) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ClaimedExport {
        let id = ExportID(try row.uuid())
        let query = try exportQuery(&row)
        return ClaimedExport(
            id: id, query: query, isIncremental: try row.bool(), fromPosition: try row.xid8(),
            toPosition: try row.xid8(), partRows: try row.int32(), attempt: try row.int32(), parts: try row.int32(),
            reached: RequestID(try row.uuid()))
    }
}

/// Tenant, format, granularity, start, end.
func exportQuery(_ row: inout PostgresRow) throws(PostgresError) -> ExportQuery {
    let tenantID = try row.optionalUUID().map { TenantID($0) }
    guard let format = ExportFormat(rawValue: try row.text()) else { throw row.failure(2, "is no format of exports") }
    guard let granularity = ExportGranularity(rawValue: try row.text()) else {
        throw row.failure(3, "is no granularity of exports")
    }
    return ExportQuery(
        tenantID: tenantID, format: format, granularity: granularity, start: Timestamp(try row.timestamp()),
        end: Timestamp(try row.timestamp()))
}

struct AppendExportPiece: PostgresStatement {
    static let sql = "SELECT append_export_piece($1, $2, $3, $4, $5, $6)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int4, .int4, .bytea, .int8]
    static let columns: [PostgresType] = [.bool]

    let export: ClaimedExport
    let part: Int32
    let position: Int32
    let content: [UInt8]
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(export.id.postgres)
        binds.append(export.attempt)
        binds.append(part)
        binds.append(position)
        binds.append(content)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct FinishExportPart: PostgresStatement {
    static let sql = "SELECT finish_export_part($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
    static let parameters: [PostgresType] = [
        .uuid, .int4, .int4, .int4, .int8, .int8, .bytea, .uuid, .uuid, .int8, .int8, .int8, .int8, .int8,
    ]
    static let columns: [PostgresType] = [.bool]

    let export: ClaimedExport
    let writer: PartWriter
    let contents: PartContents
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(export.id.postgres)
        binds.append(export.attempt)
        binds.append(writer.part)
        binds.append(writer.pieces)
        binds.append(writer.rows)
        binds.append(writer.byteCount)
        binds.append(writer.digest)
        binds.append(contents.first)
        binds.append(contents.last)
        binds.append(contents.requests)
        binds.append(contents.inputTokens)
        binds.append(contents.cachedInputTokens)
        binds.append(contents.outputTokens)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct RenewExport: PostgresStatement {
    static let sql = "SELECT renew_export($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int8]
    static let columns: [PostgresType] = [.bool]

    let export: ClaimedExport
    let leaseMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(export.id.postgres)
        binds.append(export.attempt)
        binds.append(leaseMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct CompleteExport: PostgresStatement {
    static let sql = "SELECT complete_export($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .int4, .int4]
    static let columns: [PostgresType] = [.bool]

    let export: ClaimedExport
    let keepHours: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(export.id.postgres)
        binds.append(export.attempt)
        binds.append(keepHours)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct FailExport: PostgresStatement {
    static let sql = "SELECT fail_export($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .int4, .text]
    static let columns: [PostgresType] = [.bool]

    let export: ClaimedExport
    let reason: String

    func bind(to binds: inout PostgresBinds) {
        binds.append(export.id.postgres)
        binds.append(export.attempt)
        binds.append(reason)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

struct RemoveExpiredExports: PostgresStatement {
    static let sql = "SELECT remove_expired_exports($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
