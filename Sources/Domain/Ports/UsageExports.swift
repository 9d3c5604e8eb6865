/// Reads usage as one stream of bytes, of a size that memory does not follow.
public protocol UsageExports: Sendable {
    /// Takes one of the places that there are for streams, and makes sure that the store answers.
    /// - Throws: ``ExportRefusal``.
    func open(_ query: ExportQuery) async throws(ExportRefusal) -> any UsageExportStream
}

/// Why there is no stream.
public enum ExportRefusal: Error, Sendable {
    /// As many run as may. The next one may begin when one of them has ended.
    case tooMany(isOwn: Bool)
    case unknownTenant
    case unavailable(StoreUnavailable)
}

/// A stream that has its place, which is free again when nobody holds this any more.
public protocol UsageExportStream: Sendable {
    /// Hands over the rows in chunks of about 64 KiB, each of them whole rows. Nothing is read ahead while the body works on a chunk.
    /// - Returns: how many rows there were.
    /// - Throws: what the body throws, or ``StoreUnavailable`` where the store broke off: then rows are missing.
    func read(_ body: @Sendable (_ chunk: [UInt8]) async throws -> Void) async throws -> Int64
}

/// Exports that jobs write to parts.
public protocol ExportQueue: Sendable {
    /// Takes an export that is due for so long.
    func claim(leaseMilliseconds: Int64) async throws(StoreUnavailable) -> ClaimedExport?
    /// Keeps the claim for so long from now on.
    /// - Returns: whether it still held.
    func renew(_ export: ClaimedExport, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> Bool
    /// Writes the next part whole, piece by piece; each piece renews the claim as well.
    func writePart(of export: ClaimedExport, leaseMilliseconds: Int64) async throws(StoreUnavailable)
        -> ExportPartOutcome
    /// Writes the manifest, the last of all.
    /// - Returns: whether the claim still held.
    func complete(_ export: ClaimedExport, keepHours: Int) async throws(StoreUnavailable) -> Bool
    /// - Parameter reason: for the operator.
    func fail(_ export: ClaimedExport, reason: String) async throws(StoreUnavailable)
    /// Removes what is past its end, of at most `limit` exports.
    func removeExpired(limit: Int) async throws(StoreUnavailable) -> Int
}

public enum ExportPartOutcome: Sendable {
    /// The part is whole; the export has moved on.
    case written(ClaimedExport, rows: Int64)
    /// There are no more rows.
    case noMore
    /// Another process has the export, or it was cancelled.
    case lost
    /// What it asks for cannot be written.
    case impossible(String)
}

/// What an operator does with exports.
public protocol ExportAdministration: Sendable {
    /// - Throws: `not_found` for an unknown tenant; `conflict` where an incremental one is under way or too many wait.
    func createExport(_ export: NewExport, by actor: AuditActor) async throws(AdministrationFailure) -> ExportRecord
    /// Newest first.
    func exports(_ page: PageRequest<ExportID>) async throws(AdministrationFailure) -> Page<ExportRecord>
    /// - Throws: `not_found`. So do the verbs below.
    func export(_ id: ExportID) async throws(AdministrationFailure) -> ExportRecord
    /// - Throws: `conflict` for one that has ended.
    func cancelExport(_ id: ExportID, by actor: AuditActor) async throws(AdministrationFailure) -> ExportRecord
    /// JSON.
    /// - Throws: `conflict` for one that is not completed.
    func exportManifest(_ id: ExportID) async throws(AdministrationFailure) -> String
    /// - Throws: `result_gone` where its time is over; `conflict` for one that is not completed.
    func exportPart(_ part: Int32, of id: ExportID) async throws(AdministrationFailure) -> ExportPart
    /// One piece of a part, from 0; `nil` where it is not there any more.
    func exportPiece(_ position: Int32, of part: ExportPart, in id: ExportID) async throws(AdministrationFailure)
        -> [UInt8]?
}
