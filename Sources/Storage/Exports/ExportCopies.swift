internal import Domain
internal import PostgresDriver

/// What a row looks like.
protocol ExportShape: Sendable {
    static var cells: String { get }
    static var options: String { get }
}

enum EntryCSV: ExportShape {
    static let cells = ExportText.entryCells
    static let options = ExportText.csv
}

enum EntryJSON: ExportShape {
    static let cells = ExportText.entryObject
    static let options = ExportText.lines
}

enum EntryEvent: ExportShape {
    static let cells = ExportText.entryEvent
    static let options = ExportText.lines
}

enum SumCSV: ExportShape {
    static let cells = ExportText.sumCells
    static let options = ExportText.csv
}

enum SumJSON: ExportShape {
    static let cells = ExportText.sumObject
    static let options = ExportText.lines
}

enum FocusCSV: ExportShape {
    static let cells = "*"
    static let options = ExportText.csv
}

/// Which rows there are.
protocol ExportSource: Sendable {
    static var rows: String { get }
}

enum EntriesOfAll: ExportSource { static let rows = ExportText.entriesOfAll }
enum EntriesOfTenant: ExportSource { static let rows = ExportText.entriesOfTenant }
enum SumsOfAll: ExportSource { static let rows = ExportText.sumsOfAll }
enum SumsOfTenant: ExportSource { static let rows = ExportText.sumsOfTenant }
enum JobEntriesOfAll: ExportSource { static let rows = ExportText.jobEntriesOfAll }
enum JobEntriesOfTenant: ExportSource { static let rows = ExportText.jobEntriesOfTenant }
enum NewEntriesOfAll: ExportSource { static let rows = ExportText.newEntriesOfAll }
enum NewEntriesOfTenant: ExportSource { static let rows = ExportText.newEntriesOfTenant }
enum FocusOfAll: ExportSource { static let rows = FocusText.ofAll }
enum FocusOfTenant: ExportSource { static let rows = FocusText.ofTenant }
enum JobSumsOfAll: ExportSource { static let rows = ExportText.jobSumsOfAll }
enum JobSumsOfTenant: ExportSource { static let rows = ExportText.jobSumsOfTenant }

/// One COPY for each shape and source; the text of each is static.
struct CopyRows<Shape: ExportShape, Source: ExportSource>: PostgresCopyStatement {
    static var sql: String { "COPY (SELECT \(Shape.cells) FROM (\(Source.rows)) rows) \(Shape.options)" }

    let scope: ExportScope

    var settings: [PostgresLocalSetting] { scope.values.map { PostgresLocalSetting($0, $1) } }
}

/// The values that the statements of exports read.
struct ExportScope: Sendable {
    static let firstKey = "00000000-0000-0000-0000-000000000000"
    static let lastKey = "ffffffff-ffff-ffff-ffff-ffffffffffff"

    let query: ExportQuery
    var fromPosition: UInt64 = 0
    var toPosition: UInt64 = 0
    var after = firstKey
    var last = lastKey
    var limit: Int64 = 0

    var values: [(String, String)] {
        [
            ("weir.copy_tenant", query.tenantID?.description ?? ""),
            // Row-level security; roles that see all tenants do not read it.
            ("weir.tenant_id", query.tenantID?.description ?? ""),
            ("weir.copy_start", query.start.description), ("weir.copy_end", query.end.description),
            ("weir.copy_granularity", query.granularity.rawValue), ("weir.copy_from", String(fromPosition)),
            ("weir.copy_to", String(toPosition)), ("weir.copy_after", after), ("weir.copy_last", last),
            ("weir.copy_limit", String(limit)),
        ]
    }

    /// Of a stream: what is there now.
    var stream: any PostgresCopyStatement {
        switch (query.format, query.granularity, query.tenantID == nil) {
        case (.focus, _, true): CopyRows<FocusCSV, FocusOfAll>(scope: self)
        case (.focus, _, false): CopyRows<FocusCSV, FocusOfTenant>(scope: self)
        case (.csv, .entries, true): CopyRows<EntryCSV, EntriesOfAll>(scope: self)
        case (.csv, .entries, false): CopyRows<EntryCSV, EntriesOfTenant>(scope: self)
        case (.jsonl, .entries, true): CopyRows<EntryJSON, EntriesOfAll>(scope: self)
        case (.jsonl, .entries, false): CopyRows<EntryJSON, EntriesOfTenant>(scope: self)
        case (.cloudevents, _, true): CopyRows<EntryEvent, EntriesOfAll>(scope: self)
        case (.cloudevents, _, false): CopyRows<EntryEvent, EntriesOfTenant>(scope: self)
        case (.csv, _, true): CopyRows<SumCSV, SumsOfAll>(scope: self)
        case (.csv, _, false): CopyRows<SumCSV, SumsOfTenant>(scope: self)
        case (.jsonl, _, true): CopyRows<SumJSON, SumsOfAll>(scope: self)
        case (.jsonl, _, false): CopyRows<SumJSON, SumsOfTenant>(scope: self)
        }
    }

    /// Of a job: what was there when it was made.
    func part(isIncremental: Bool) -> (any PostgresCopyStatement)? {
        guard query.granularity == .entries else {
            switch (query.format, query.tenantID == nil) {
            case (.csv, true): return CopyRows<SumCSV, JobSumsOfAll>(scope: self)
            case (.csv, false): return CopyRows<SumCSV, JobSumsOfTenant>(scope: self)
            case (.jsonl, true): return CopyRows<SumJSON, JobSumsOfAll>(scope: self)
            case (.jsonl, false): return CopyRows<SumJSON, JobSumsOfTenant>(scope: self)
            default: return nil
            }
        }
        switch query.format {
        case .csv: return entries(EntryCSV.self, isIncremental: isIncremental)
        case .jsonl: return entries(EntryJSON.self, isIncremental: isIncremental)
        case .cloudevents: return entries(EntryEvent.self, isIncremental: isIncremental)
        case .focus: return stream
        }
    }

    private func entries<Shape: ExportShape>(_ shape: Shape.Type, isIncremental: Bool) -> any PostgresCopyStatement {
        switch (isIncremental, query.tenantID == nil) {
        case (false, true): CopyRows<Shape, JobEntriesOfAll>(scope: self)
        case (false, false): CopyRows<Shape, JobEntriesOfTenant>(scope: self)
        case (true, true): CopyRows<Shape, NewEntriesOfAll>(scope: self)
        case (true, false): CopyRows<Shape, NewEntriesOfTenant>(scope: self)
        }
    }
}

/// Sets the values for the rest of a transaction.
struct SetExportScope: PostgresStatement {
    static let sql = "SELECT count(set_config(key, value, true)) FROM unnest($1, $2) AS v (key, value)"
    static let parameters: [PostgresType] = [.textArray, .textArray]

    let scope: ExportScope

    func bind(to binds: inout PostgresBinds) {
        binds.append(scope.values.map(\.0))
        binds.append(scope.values.map(\.1))
    }
}

/// Where a part ends, and what is in it.
struct PartContents: Sendable {
    let rows: Int64
    let first: PostgresUUID?
    let last: PostgresUUID?
    let requests: Int64
    let inputTokens: Int64
    let cachedInputTokens: Int64
    let outputTokens: Int64
}

/// Looks at the next rows of a job: as many as make a part, at most.
struct FindPartEnd<Source: ExportSource>: PostgresStatement {
    static var sql: String {
        """
        SELECT count(*), min(entry_id::text)::uuid, max(entry_id::text)::uuid, coalesce(sum(requests), 0)::bigint,
            coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(cached_input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint
        FROM (\(Source.rows) LIMIT current_setting('weir.copy_limit', true)::bigint) part
        """
    }
    static var columns: [PostgresType] { [.int8, .uuid, .uuid, .int8, .int8, .int8, .int8] }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PartContents { try contents(&row) }
}

/// The same of invoices' lines.
struct FindFocusRows<Source: ExportSource>: PostgresStatement {
    static var sql: String {
        "SELECT count(*), NULL::uuid, NULL::uuid, 0::bigint, 0::bigint, 0::bigint, 0::bigint FROM (\(Source.rows)) focus"
    }
    static var columns: [PostgresType] { [.int8, .uuid, .uuid, .int8, .int8, .int8, .int8] }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PartContents { try contents(&row) }
}

/// The same of sums, of which there is one part.
struct FindSums<Source: ExportSource>: PostgresStatement {
    static var sql: String {
        """
        SELECT count(*), NULL::uuid, NULL::uuid, coalesce(sum(requests), 0)::bigint, coalesce(sum(input_tokens), 0)::bigint,
            coalesce(sum(cached_input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint
        FROM (\(Source.rows)) sums
        """
    }
    static var columns: [PostgresType] { [.int8, .uuid, .uuid, .int8, .int8, .int8, .int8] }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PartContents { try contents(&row) }
}

private func contents(_ row: inout PostgresRow) throws(PostgresError) -> PartContents {
    PartContents(
        rows: try row.int64(), first: try row.optionalUUID(), last: try row.optionalUUID(), requests: try row.int64(),
        inputTokens: try row.int64(), cachedInputTokens: try row.int64(), outputTokens: try row.int64())
}
