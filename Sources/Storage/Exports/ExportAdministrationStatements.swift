internal import Domain
internal import PostgresDriver

private let recordColumns: [PostgresType] = [
    .uuid, .uuid, .text, .text, .timestamptz, .timestamptz, .bool, .text, .xid8, .int4, .int8, .int8, .text, .text,
    .timestamptz,
    .timestamptz, .timestamptz, .timestamptz,
]

private func record(_ row: inout PostgresRow) throws(PostgresError) -> ExportRecord {
    let id = ExportID(try row.uuid())
    let query = try exportQuery(&row)
    let isIncremental = try row.bool()
    guard let state = ExportRecord.State(rawValue: try row.text()) else {
        throw row.failure(7, "is no state of an export")
    }
    return ExportRecord(
        id: id, query: query, isIncremental: isIncremental, state: state, nextPosition: try row.xid8(),
        parts: try row.int32(),
        rowCount: try row.int64(), byteCount: try row.int64(), error: try row.optionalText(), createdBy: try row.text(),
        createdAt: Timestamp(try row.timestamp()), startedAt: try row.optionalTimestamp().map { Timestamp($0) },
        finishedAt: try row.optionalTimestamp().map { Timestamp($0) },
        expiresAt: try row.optionalTimestamp().map { Timestamp($0) })
}

/// Begins at a position that was given, or where the last incremental export of the same tenant and format ended that was given none, and ends below the oldest transaction that still runs: what a
/// slow one commits later is in the next.
struct InsertExport: PostgresStatement {
    static let sql = """
        INSERT INTO exports (export_id, tenant_id, format, granularity, window_start, window_end, is_incremental, from_position, to_position,
            part_rows, created_by, begins_where_told)
        SELECT $1, $2, $3, $4, $5, $6, $7,
            CASE WHEN $7 THEN coalesce($10::xid8, (SELECT max(p.to_position::text::numeric)::text::xid8 FROM exports p
                WHERE p.is_incremental AND NOT p.begins_where_told AND p.state = 'completed' AND p.format = $3 AND p.tenant_id IS NOT DISTINCT FROM $2), '0')
                ELSE '0'::xid8 END,
            pg_snapshot_xmin(pg_current_snapshot()), $8, $9, $10::xid8 IS NOT NULL
        WHERE $10::xid8 IS NULL OR $10::xid8 <= pg_snapshot_xmin(pg_current_snapshot())
        RETURNING export_id
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .text, .text, .timestamptz, .timestamptz, .bool, .int4, .text, .xid8,
    ]
    static let columns: [PostgresType] = [.uuid]

    let id: ExportID
    let query: ExportQuery
    let isIncremental: Bool
    let partRows: Int32
    let after: UInt64?
    let actor: AuditActor

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(query.tenantID?.postgres)
        binds.append(query.format.rawValue)
        binds.append(query.granularity.rawValue)
        binds.append(query.start.postgres)
        binds.append(query.end.postgres)
        binds.append(isIncremental)
        binds.append(partRows)
        binds.append(actor.text)
        binds.appendXID8(after)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ExportID { ExportID(try row.uuid()) }
}

/// How many have not ended, and whether one of them is an incremental one of this tenant and format.
struct CountOpenExports: PostgresStatement {
    static let sql = """
        SELECT count(*), coalesce(bool_or(is_incremental AND format = $2 AND tenant_id IS NOT DISTINCT FROM $1), false)
        FROM exports WHERE state IN ('queued', 'running')
        """
    static let parameters: [PostgresType] = [.uuid, .text]
    static let columns: [PostgresType] = [.int8, .bool]

    let query: ExportQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID?.postgres)
        binds.append(query.format.rawValue)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (Int64, Bool) {
        (try row.int64(), try row.bool())
    }
}

struct ListExports: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT export_id FROM exports
            WHERE $2::uuid IS NULL AND export_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY export_id DESC LIMIT $3)
            UNION ALL
            (SELECT export_id FROM exports WHERE export_id > $2::uuid ORDER BY export_id LIMIT $3)
        )
        SELECT export_id, e.tenant_id, e.format, e.granularity, e.window_start, e.window_end, e.is_incremental, e.state, e.to_position, e.parts, e.row_count,
            e.byte_count, e.error, e.created_by, e.created_at, e.started_at, e.finished_at, e.expires_at
        FROM page JOIN exports e USING (export_id) ORDER BY export_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8]
    static let columns = recordColumns

    let page: PageRequest<ExportID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ExportRecord { try record(&row) }
}

struct FindExport: PostgresStatement {
    static let sql = """
        SELECT export_id, tenant_id, format, granularity, window_start, window_end, is_incremental, state, to_position, parts, row_count, byte_count, error,
            created_by, created_at, started_at, finished_at, expires_at
        FROM exports WHERE export_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = recordColumns

    let id: ExportID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ExportRecord { try record(&row) }
}

struct CancelExport: PostgresStatement {
    static let sql = """
        UPDATE exports SET state = 'cancelled', due_at = NULL, finished_at = clock_timestamp()
        WHERE export_id = $1 AND state IN ('queued', 'running') RETURNING export_id
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let id: ExportID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ExportID { ExportID(try row.uuid()) }
}

struct ReadExportManifest: PostgresStatement {
    static let sql = "SELECT manifest FROM exports WHERE export_id = $1"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text]

    let id: ExportID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String? { try row.optionalText() }
}

/// A part of a completed export whose time is not over.
struct FindExportPart: PostgresStatement {
    static let sql = """
        SELECT p.part, p.attempt, p.pieces, p.byte_count, p.sha256
        FROM export_parts p JOIN exports e ON e.export_id = p.export_id
        WHERE p.export_id = $1 AND p.part = $2 AND e.state = 'completed'
        """
    static let parameters: [PostgresType] = [.uuid, .int4]
    static let columns: [PostgresType] = [.int4, .int4, .int4, .int8, .bytea]

    let id: ExportID
    let part: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(part)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ExportPart {
        ExportPart(
            part: try row.int32(), attempt: try row.int32(), pieces: try row.int32(), byteCount: try row.int64(),
            sha256: try row.bytes())
    }
}

struct ReadExportPiece: PostgresStatement {
    static let sql =
        "SELECT content FROM export_pieces WHERE export_id = $1 AND part = $2 AND attempt = $3 AND position = $4"
    static let parameters: [PostgresType] = [.uuid, .int4, .int4, .int4]
    static let columns: [PostgresType] = [.bytea]

    let id: ExportID
    let part: ExportPart
    let position: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(part.part)
        binds.append(part.attempt)
        binds.append(position)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> [UInt8] { try row.bytes() }
}
