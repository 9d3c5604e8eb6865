internal import Crypto
public import Domain
public import PostgresDriver

/// Exports that are written to parts, in PostgreSQL: what there is to write is read by COPY on one connection, and kept piece by piece on another.
public struct ExportQueueStore: ExportQueue {
    private let pool: PostgresPool
    private let reports: PostgresPool

    /// Sums are written in one part, so this bounds it.
    private static let sumRowsLimit: Int64 = 1_000_000

    /// - Parameters:
    ///   - pool: connections of the role `weir_jobs`.
    ///   - reports: connections of the role `weir_reports`, with the time that a part may take.
    public init(pool: PostgresPool, reports: PostgresPool) {
        self.pool = pool
        self.reports = reports
    }

    public func claim(leaseMilliseconds: Int64) async throws(StoreUnavailable) -> ClaimedExport? {
        try await execute(ClaimExport(leaseMilliseconds: leaseMilliseconds)).first
    }

    public func renew(_ export: ClaimedExport, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> Bool {
        try await execute(RenewExport(export: export, leaseMilliseconds: leaseMilliseconds)).first ?? false
    }

    public func complete(_ export: ClaimedExport, keepHours: Int) async throws(StoreUnavailable) -> Bool {
        try await execute(CompleteExport(export: export, keepHours: Int32(clamping: keepHours))).first ?? false
    }

    public func fail(_ export: ClaimedExport, reason: String) async throws(StoreUnavailable) {
        _ = try await execute(FailExport(export: export, reason: reason))
    }

    public func removeExpired(limit: Int) async throws(StoreUnavailable) -> Int {
        Int(try await execute(RemoveExpiredExports(limit: Int32(clamping: limit))).first ?? 0)
    }

    public func writePart(
        of export: ClaimedExport, leaseMilliseconds: Int64
    ) async throws(StoreUnavailable) -> ExportPartOutcome {
        let isSum = export.query.granularity != .entries || export.query.format == .focus
        if isSum, export.parts > 0 { return .noMore }
        var scope = ExportScope(
            query: export.query, fromPosition: export.fromPosition, toPosition: export.toPosition,
            after: isSum ? ExportScope.firstKey : export.reached.description, limit: Int64(export.partRows))
        let contents = try await contents(scope, export)
        guard contents.rows > 0 else { return .noMore }
        if isSum, contents.rows > Self.sumRowsLimit {
            return .impossible(
                "There are \(contents.rows) rows, and an export holds \(Self.sumRowsLimit). Ask for a shorter range.")
        }
        if let last = contents.last { scope.last = RequestID(last).description }
        guard let statement = scope.part(isIncremental: export.isIncremental) else {
            return .impossible("This version writes no \(export.query.format.rawValue) in parts.")
        }
        var writer = PartWriter(pool: pool, export: export, leaseMilliseconds: leaseMilliseconds)
        do {
            guard try await writer.write(statement, header: export.query.header, from: reports) else { return .lost }
        } catch let error as PostgresError {
            throw StoreUnavailable(error)
        } catch let error as StoreUnavailable {
            throw error
        } catch {
            throw StoreUnavailable(cause: "cancelled")
        }
        // The same transactions have the same entries for ever; if not, nothing that is written here can be trusted.
        guard writer.rows == contents.rows else {
            return .impossible("A part has \(writer.rows) rows where the ledger has \(contents.rows).")
        }
        guard
            try await execute(
                FinishExportPart(
                    export: export, writer: writer, contents: contents, leaseMilliseconds: leaseMilliseconds)
            ).first == true
        else { return .lost }
        var next = export
        next.parts += 1
        if let last = contents.last { next.reached = RequestID(last) }
        return .written(next, rows: contents.rows)
    }

    private func contents(_ scope: ExportScope, _ export: ClaimedExport) async throws(StoreUnavailable) -> PartContents
    {
        if export.query.format == .focus {
            return export.query.tenantID == nil
                ? try await find(FindFocusRows<FocusOfAll>(), scope)
                : try await find(FindFocusRows<FocusOfTenant>(), scope)
        }
        return switch (export.query.granularity == .entries, export.isIncremental, export.query.tenantID == nil) {
        case (false, _, true): try await find(FindSums<JobSumsOfAll>(), scope)
        case (false, _, false): try await find(FindSums<JobSumsOfTenant>(), scope)
        case (true, false, true): try await find(FindPartEnd<JobEntriesOfAll>(), scope)
        case (true, false, false): try await find(FindPartEnd<JobEntriesOfTenant>(), scope)
        case (true, true, true): try await find(FindPartEnd<NewEntriesOfAll>(), scope)
        case (true, true, false): try await find(FindPartEnd<NewEntriesOfTenant>(), scope)
        }
    }

    private func find<S: PostgresStatement>(
        _ statement: S, _ scope: ExportScope
    ) async throws(StoreUnavailable) -> PartContents where S.Row == PartContents {
        let row: PartContents?
        do throws(PostgresError) {
            row = try await reports.pipeline(SetExportScope(scope: scope), statement).1.first
        } catch {
            throw StoreUnavailable(error)
        }
        guard let row else { throw StoreUnavailable(cause: "no sums of a part") }
        return row
    }

    private func execute<S: PostgresStatement>(_ statement: S) async throws(StoreUnavailable) -> [S.Row] {
        do throws(PostgresError) {
            return try await pool.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

/// Writes the pieces of one part and keeps count.
struct PartWriter {
    let pool: PostgresPool
    let export: ClaimedExport
    let leaseMilliseconds: Int64
    private(set) var rows: Int64 = 0
    private(set) var byteCount: Int64 = 0
    private(set) var pieces: Int32 = 0
    private var hash = SHA256()
    private var buffer: [UInt8] = []

    /// Bytes of a piece, at least; it ends with a row.
    private static let pieceBytes = 1_048_576

    init(pool: PostgresPool, export: ClaimedExport, leaseMilliseconds: Int64) {
        self.pool = pool
        self.export = export
        self.leaseMilliseconds = leaseMilliseconds
    }

    var digest: [UInt8] { Array(hash.finalize()) }
    var part: Int32 { export.parts + 1 }

    /// - Returns: whether the claim still holds.
    mutating func write(
        _ statement: some PostgresCopyStatement, header: String, from reports: PostgresPool
    ) async throws -> Bool {
        buffer = Array(header.utf8)
        var written = self
        let isWhole = try await reports.withConnection { connection in
            let copy = try await connection.copyOut(statement)
            for try await chunk in copy {
                written.buffer += chunk
                if written.buffer.count >= Self.pieceBytes, try await !written.flush() { return false }
            }
            written.rows = await copy.rowCount
            return true
        }
        guard isWhole else { return false }
        let isKept = try await written.flush()
        self = written
        return isKept
    }

    private mutating func flush() async throws -> Bool {
        guard !buffer.isEmpty else { return true }
        hash.update(data: buffer)
        byteCount += Int64(buffer.count)
        let isHeld = try await pool.execute(
            AppendExportPiece(
                export: export, part: part, position: pieces, content: buffer, leaseMilliseconds: leaseMilliseconds)
        ).first
        pieces += 1
        buffer.removeAll(keepingCapacity: true)
        return isHeld == true
    }
}
