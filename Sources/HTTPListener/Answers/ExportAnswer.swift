public import Domain
internal import HTTPTypes
public import Hummingbird
internal import NIOCore
internal import Synchronization

/// An export as an answer: streamed at the pace of whoever reads it, and visibly broken off where rows are missing.
public enum ExportAnswer {
    /// The parameters of both listeners' routes.
    public static let parameters: Set<String> = ["format", "start", "end", "granularity"]

    /// After which a caller who takes nothing has left.
    private static let stallNanoseconds: UInt64 = 60_000_000_000

    /// Reads the parameters of a route.
    public static func query(_ parameters: QueryParameters, tenantID: TenantID?) throws(Refusal) -> ExportQuery {
        let format = try parameters.exportWord("format", ExportFormat.allCases) ?? .csv
        let granularity = try parameters.exportWord("granularity", ExportGranularity.allCases)
        guard let start = try parameters.instant("start") else {
            throw .invalid("start", "is missing", fix: "Send it as 2026-03-01T00:00:00Z.")
        }
        guard let end = try parameters.instant("end") else {
            throw .invalid("end", "is missing", fix: "Send it as 2026-04-01T00:00:00Z; it is not part of the range.")
        }
        return try .checked(tenantID: tenantID, format: format, granularity: granularity, start: start, end: end)
    }

    /// Opens the stream before the head is sent, so that what can be refused is refused with a status.
    public static func response(
        _ query: ExportQuery, from exports: any UsageExports, time: any TimeSource
    ) async throws -> Response {
        let stream: any UsageExportStream
        do throws(ExportRefusal) {
            stream = try await exports.open(query)
        } catch {
            throw error.refusal
        }
        return Response(
            status: .ok,
            headers: [
                .contentType: query.format.mediaType,
                .contentDisposition: "attachment; filename=\"\(query.filename)\"",
                .trailer: "x-weir-rows",
            ],
            body: ResponseBody { writer in
                let pen = Pen(writer, time: time)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        if !query.header.isEmpty { try await pen.write(Array(query.header.utf8)) }
                        let rows = try await stream.read { chunk in try await pen.write(chunk) }
                        let trailer = query.trailer(rows: rows)
                        if !trailer.isEmpty { try await pen.write(Array(trailer.utf8)) }
                        try await pen.finish(rows: rows)
                    }
                    group.addTask { try await pen.watch(stallNanoseconds) }
                    // Whatever ends first ends the other; one that throws leaves the answer without its end.
                    try await group.next()
                    group.cancelAll()
                }
            })
    }

    /// Writes for one task at a time, and knows how long it has been waiting.
    // SAFETY: `writer` is touched by the writing task alone, one call after the other; the task that watches reads the atomic and nothing else.
    private final class Pen: @unchecked Sendable {
        private var writer: any ResponseBodyWriter
        private let time: any TimeSource
        /// Since when a write waits; 0 while none does.
        private let waitingSince = Atomic<UInt64>(0)

        init(_ writer: any ResponseBodyWriter, time: any TimeSource) {
            self.writer = writer
            self.time = time
        }

        func write(_ bytes: [UInt8]) async throws {
            waitingSince.store(max(1, time.monotonicNanoseconds), ordering: .relaxed)
            defer { waitingSince.store(0, ordering: .relaxed) }
            try await writer.write(ByteBuffer(bytes: bytes))
        }

        func finish(rows: Int64) async throws {
            let writer = self.writer
            try await writer.finish([.weirRows: String(rows)])
        }

        /// - Throws: once a write has waited for too long.
        func watch(_ limit: UInt64) async throws {
            while true {
                try await Task.sleep(nanoseconds: 1_000_000_000)
                let since = waitingSince.load(ordering: .relaxed)
                if since > 0, time.monotonicNanoseconds &- since > limit { throw Stalled() }
            }
        }
    }

    private struct Stalled: Error {}
}

extension QueryParameters {
    fileprivate func exportWord<Word: RawRepresentable<String>>(
        _ name: String, _ words: [Word]
    ) throws(Refusal) -> Word? {
        try value(
            name, "one of \(words.map(\.rawValue).joined(separator: ", "))", fix: "Send one of these words."
        ) { Word(rawValue: $0) }
    }
}

extension ExportRefusal {
    public var refusal: Refusal {
        switch self {
        case .tooMany(let isOwn):
            Refusal(
                .overloaded,
                isOwn
                    ? "An export of yours is running, and one may at a time. Ask again when it has ended."
                    : "As many exports run on this server as may. Ask again in a moment.",
                retryAfterSeconds: 5)
        case .unknownTenant: Refusal(.notFound, "There is no such tenant.")
        case .unavailable(let outage): .storageUnavailable(cause: outage.cause)
        }
    }
}

extension HTTPField.Name {
    static let weirRows = HTTPField.Name("x-weir-rows") ?? .server
}
