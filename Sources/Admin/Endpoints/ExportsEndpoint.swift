public import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// What the routes of exports stand on.
public struct AdminExports: Sendable {
    /// Of all tenants.
    public let streams: any UsageExports
    public let administration: any ExportAdministration
    /// Rows of a part.
    public let partRows: Int

    public init(streams: any UsageExports, administration: any ExportAdministration, partRows: Int) {
        self.streams = streams
        self.administration = administration
        self.partRows = partRows
    }
}

/// `/admin/v1/usage/export` and `/admin/v1/exports`: usage as a stream, and as parts that a job writes.
struct ExportsEndpoint: Sendable {
    let exports: AdminExports?
    let time: any TimeSource

    func stream(_ call: AdminCall) async throws -> Response {
        let tenantID = try call.query.value("tenant", "a tenant's id", fix: "Leave it out for all tenants.") {
            TenantID($0)
        }
        let query = try ExportAnswer.query(call.query, tenantID: tenantID)
        return try await ExportAnswer.response(query, from: try present.streams, time: time)
    }

    func create(_ call: AdminCall) async throws -> Response {
        let exports = try present
        let input = try await RequestBodyReader.object(
            call, fields: ["format", "tenant", "start", "end", "granularity", "incremental", "after_position"])
        let format = input.required("format", .oneOf(ExportFormat.allCases))
        let tenantID = input.nullable("tenant", .tenantID)
        let start = input.nullable("start", .instant)
        let end = input.nullable("end", .instant)
        let granularity = input.nullable("granularity", .oneOf(ExportGranularity.allCases))
        let isIncremental = input.optional("incremental", .boolean) ?? false
        let after = input.nullable("after_position", .position)
        if isIncremental {
            for name in ["start", "end", "granularity"] where input.has(name) && !input.isNull(name) {
                input.note(name, "does not go with incremental", fix: "Leave it out: the export has what is new.")
            }
            if format == .focus {
                input.note("format", "does not go with incremental", fix: "Take csv, jsonl or cloudevents.")
            }
        } else {
            if input.has("after_position"), !input.isNull("after_position") {
                input.note("after_position", "goes with incremental alone", fix: "Leave it out, or send incremental.")
            }
            for (name, edge) in [("start", start), ("end", end)] where edge == nil && !input.has(name) {
                input.note(name, "is missing", fix: "Send it as 2026-03-01T00:00:00Z.")
            }
            if let end, end > time.now {
                input.note(
                    "end", "has not come yet", fix: "Wait for the window to end, or take GET /admin/v1/usage/export.")
            }
        }
        try input.problems.check()
        guard let format else { throw input.problems.refusal }
        let window: NewExport.Window
        if isIncremental {
            window = .incremental(tenantID: tenantID, format: format, after: after)
        } else {
            guard let start, let end else { throw Refusal.invalid("/start", "is missing", fix: "Send start and end.") }
            window = .query(
                try .checked(tenantID: tenantID, format: format, granularity: granularity, start: start, end: end))
        }
        let record = try await exports.administration.createExport(
            NewExport(window: window, partRows: Int32(clamping: exports.partRows)), by: call.actor)
        var response = try Response.json(ExportRecordAnswer(record), status: .accepted)
        response.headers[.location] = "/admin/v1/exports/\(record.id.publicText)"
        return response
    }

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await present.administration.exports(try call.query.page { ExportID(publicText: $0) })
        return try .json(ListAnswer(page, cursor: \.id.publicText, ExportRecordAnswer.init))
    }

    func one(_ call: AdminCall) async throws -> Response {
        try .json(ExportRecordAnswer(try await present.administration.export(try Self.id(call))))
    }

    func cancel(_ call: AdminCall) async throws -> Response {
        try .json(
            ExportRecordAnswer(try await present.administration.cancelExport(try Self.id(call), by: call.actor)))
    }

    func manifest(_ call: AdminCall) async throws -> Response {
        let text = try await present.administration.exportManifest(try Self.id(call))
        return Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: .init(byteBuffer: ByteBuffer(string: text)))
    }

    func part(_ call: AdminCall) async throws -> Response {
        let administration = try present.administration
        let id = try Self.id(call)
        guard let number = call.context.parameters.get("part").flatMap({ Int32($0) }), number >= 1 else {
            throw Refusal(.notFound, "The export has no such part. Its manifest names those that there are.")
        }
        let part = try await administration.exportPart(number, of: id)
        let record = try await administration.export(id)
        return Response(
            status: .ok,
            headers: [
                .contentType: record.query.format.mediaType, .contentLength: String(part.byteCount),
                .contentDisposition:
                    "attachment; filename=\"\(id.publicText)-\(number).\(record.query.format.fileExtension)\"",
                .eTag: "\"\(part.sha256.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined())\"",
            ],
            body: ResponseBody(contentLength: Int(part.byteCount)) { writer in
                for position in 0..<part.pieces {
                    // Without it the answer stays shorter than its length says, which every reader sees.
                    guard let piece = try await administration.exportPiece(position, of: part, in: id) else {
                        throw Refusal(.resultGone, "The parts of this export are no longer kept.")
                    }
                    try await writer.write(ByteBuffer(bytes: piece))
                }
                try await writer.finish(nil)
            })
    }

    private static func id(_ call: AdminCall) throws(Refusal) -> ExportID {
        guard let id = call.context.parameters.get("id").flatMap({ ExportID(publicText: $0) }) else {
            throw Refusal(.notFound, "There is no such export.")
        }
        return id
    }

    private var present: AdminExports {
        get throws(Refusal) {
            guard let exports else { throw Refusal(.notFound, "This server has no exports.") }
            return exports
        }
    }
}

extension InputRule where Value == UInt64 {
    fileprivate static var position: InputRule {
        InputRule(expectation: "a position", fix: "Send the next of an incremental export, as it stands there.") {
            value in
            guard case .string(let text) = value, let number = UInt64(text), String(number) == text else { return nil }
            return number
        }
    }
}

private struct ExportRecordAnswer: Encodable {
    let object = "export"
    let id: String
    let format: String
    let granularity: String
    @Present var tenantID: String?
    @Present var start: String?
    @Present var end: String?
    let isIncremental: Bool
    let state: String
    @Present var next: String?
    let parts: Int32
    let rows: Int64
    let bytes: Int64
    @Present var error: String?
    let createdBy: String
    let createdAt: String
    @Present var startedAt: String?
    @Present var finishedAt: String?
    @Present var expiresAt: String?

    init(_ record: ExportRecord) {
        id = record.id.publicText
        format = record.query.format.rawValue
        granularity = record.query.granularity.rawValue
        tenantID = record.query.tenantID?.description
        start = record.isIncremental ? nil : record.query.start.description
        end = record.isIncremental ? nil : record.query.end.description
        isIncremental = record.isIncremental
        state = record.state.rawValue
        next = record.isIncremental ? String(record.nextPosition) : nil
        parts = record.parts
        rows = record.rowCount
        bytes = record.byteCount
        error = record.error
        createdBy = record.createdBy
        createdAt = record.createdAt.description
        startedAt = record.startedAt?.description
        finishedAt = record.finishedAt?.description
        expiresAt = record.expiresAt?.description
    }

    enum CodingKeys: String, CodingKey {
        case object, id, format, granularity, start, end, state, next, parts, rows, bytes, error
        case tenantID = "tenant_id"
        case isIncremental = "incremental"
        case createdBy = "created_by"
        case createdAt = "created_at"
        case startedAt = "started_at"
        case finishedAt = "finished_at"
        case expiresAt = "expires_at"
    }
}
