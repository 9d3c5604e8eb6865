internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// `/v1/files` of the OpenAI API: files of JSON Lines, in and out piece by piece.
struct FilesEndpoint: Sendable {
    let files: any FileRecords
    let limits: GatewayServer.BatchLimits

    /// Bytes of a piece. Many at once are in memory only as often as there are uploads under way.
    private static let pieceBytes = 262_144

    func upload(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        guard let type = request.headers[.contentType], var reader = MultipartReader(contentType: type) else {
            throw Refusal(
                .unsupportedMediaType, "The body must be a form with a file. Send content-type: multipart/form-data.")
        }
        if let length = request.headers[.contentLength].flatMap({ Int64($0) }), length > limits.fileBytes + 65_536 {
            throw Refusal.tooLarge(Int(limits.fileBytes))
        }
        var upload = Upload(files: files, limits: limits, tenantID: caller.tenantID)
        do {
            for try await var bytes in request.body {
                let events: [MultipartReader.Event]
                do throws(MultipartReader.Malformed) { events = try reader.read(&bytes) } catch { throw Self.malformed }
                for event in events { try await upload.take(event) }
            }
            guard reader.isComplete else { throw Self.malformed }
            return try .json(FileAnswer(try await upload.finish()))
        } catch {
            await upload.abandon()
            throw error
        }
    }

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try QueryParameters(request, allowed: ["limit", "after", "purpose", "order"])
        let limit = try query.integer("limit", in: 1...10_000, default: 100)
        let after = try query.value("after", "the id of a file", fix: "Take it from last_id of a page.") {
            FileID(publicText: $0)
        }
        _ = try query.value("order", "desc", fix: "Leave it out: the newest come first.") { $0 == "desc" ? $0 : nil }
        let page = min(limit, 1_000)
        var rows = try await files.files(
            tenantID: try context.caller.tenantID, purpose: query.text("purpose"), after: after, limit: page + 1)
        let hasMore = rows.count > page
        if hasMore { rows.removeLast() }
        let data = rows.map { FileAnswer($0) }
        return try .json(ListAnswer(data: data, firstID: data.first?.id, lastID: data.last?.id, hasMore: hasMore))
    }

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        try .json(FileAnswer(try await find(context)))
    }

    func content(_ request: Request, _ context: ControlContext) async throws -> Response {
        let file = try await find(context)
        let tenantID = try context.caller.tenantID
        return Response(
            status: .ok,
            headers: [.contentType: "application/octet-stream", .contentLength: String(file.byteCount)],
            body: ResponseBody(contentLength: Int(file.byteCount)) { [files] writer in
                var position: Int32 = 0
                while let piece = try await files.piece(position, of: file.id, tenantID: tenantID) {
                    try await writer.write(ByteBuffer(bytes: piece))
                    position += 1
                }
                try await writer.finish(nil)
            })
    }

    func remove(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let id = Self.id(context) else { throw Self.noFile }
        switch try await files.remove(id, tenantID: try context.caller.tenantID) {
        case .removed: return try .json(Removal(id: id.publicText))
        case .unknown: throw Self.noFile
        case .inUse: throw Refusal(.conflict, "A batch that has not ended reads this file. Cancel it first.")
        }
    }

    private struct Removal: Encodable {
        let id: String
        let object = "file"
        let deleted = true
    }

    private func find(_ context: ControlContext) async throws -> StoredFile {
        guard let id = Self.id(context), let file = try await files.file(id, tenantID: try context.caller.tenantID)
        else {
            throw Self.noFile
        }
        return file
    }

    private static func id(_ context: ControlContext) -> FileID? {
        context.parameters.get("id").flatMap { FileID(publicText: $0) }
    }

    static let noFile = Refusal(.notFound, "There is no such file, or it is not yours to see.")
    private static let malformed = Refusal(
        .badRequest, "The form cannot be read: it must be multipart/form-data, to its end.")

    /// A form on its way in: the purpose, and the file in pieces.
    private struct Upload {
        let files: any FileRecords
        let limits: GatewayServer.BatchLimits
        let tenantID: TenantID
        private var field = ""
        private var purpose = ByteBuffer()
        private var fileID: FileID?
        private var isOpen = false
        private var position: Int32 = 0
        private var byteCount: Int64 = 0
        private var piece: [UInt8] = []

        init(files: any FileRecords, limits: GatewayServer.BatchLimits, tenantID: TenantID) {
            self.files = files
            self.limits = limits
            self.tenantID = tenantID
        }

        mutating func take(_ event: MultipartReader.Event) async throws {
            switch event {
            case .part(let name, let filename):
                field = name
                guard name == "file" else { return }
                guard fileID == nil else { throw Refusal.invalid("file", "is given twice", fix: "Send one file.") }
                let kept = String(
                    (filename ?? "file").unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.prefix(200))
                fileID = try await files.begin(
                    filename: kept.isEmpty ? "file" : kept, tenantID: tenantID, limit: limits.tenantFiles)
                guard fileID != nil else {
                    throw Refusal(
                        .conflict, "You have as many files as you may have, \(limits.tenantFiles). Delete some first.")
                }
                isOpen = true
            case .content(var bytes):
                if field == "purpose" {
                    guard purpose.readableBytes + bytes.readableBytes <= 64 else { throw Self.badPurpose }
                    purpose.writeBuffer(&bytes)
                } else if field == "file" {
                    byteCount += Int64(bytes.readableBytes)
                    guard byteCount <= limits.fileBytes else { throw Refusal.tooLarge(Int(limits.fileBytes)) }
                    piece.append(contentsOf: bytes.readableBytesView)
                    if piece.count >= FilesEndpoint.pieceBytes { try await flush() }
                }
            case .endOfPart: if field == "file" { try await flush() }
            case .end: break
            }
        }

        mutating func finish() async throws -> StoredFile {
            guard String(buffer: purpose) == "batch" else { throw Self.badPurpose }
            guard let fileID else {
                throw Refusal.invalid("file", "is missing", fix: "Send the file as the form's part file.")
            }
            guard byteCount > 0 else {
                throw Refusal.invalid("file", "is empty", fix: "Send one request in each line.")
            }
            guard let file = try await files.complete(fileID, tenantID: tenantID) else { throw FilesEndpoint.noFile }
            isOpen = false
            return file
        }

        /// What was kept of an upload that failed goes at once; where the database is away, within the hour.
        mutating func abandon() async {
            guard isOpen, let fileID else { return }
            isOpen = false
            try? await files.abandon(fileID, tenantID: tenantID)
        }

        private mutating func flush() async throws {
            guard let fileID, !piece.isEmpty else { return }
            switch try await files.append(
                piece, to: fileID, position: position, tenantID: tenantID, tenantLimit: limits.tenantBytes)
            {
            case .kept: break
            case .unknown: throw FilesEndpoint.noFile
            case .full:
                throw Refusal(
                    .conflict,
                    "Your files are as large as they may be, \(limits.tenantBytes) bytes together. Delete some first.")
            }
            position += 1
            piece.removeAll(keepingCapacity: true)
        }

        private static let badPurpose = Refusal.invalid("purpose", "must be batch", fix: "Send purpose=batch.")
    }
}

private struct FileAnswer: Encodable {
    let id: String
    let object = "file"
    let bytes: Int64
    let createdAt: Int64
    let expiresAt: Int64
    let filename: String
    let purpose: String
    let status = "processed"

    enum CodingKeys: String, CodingKey {
        case id, object, bytes, filename, purpose, status
        case createdAt = "created_at"
        case expiresAt = "expires_at"
    }

    init(_ file: StoredFile) {
        id = file.id.publicText
        bytes = file.byteCount
        createdAt = file.createdAt.unixSeconds
        expiresAt = file.expiresAt.unixSeconds
        filename = file.filename
        purpose = file.purpose
    }
}

extension Timestamp {
    /// As the OpenAI API has instants.
    var unixSeconds: Int64 { microsecondsSince1970 / 1_000_000 }
}
