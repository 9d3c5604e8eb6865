internal import Domain
internal import HTTPListener
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// `GET /api/v1/requests/{id}/result`: what a request was answered with, as it is kept, whole or in part.
struct ResultEndpoint: Sendable {
    let records: any CustomerRecords

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let tenantID = try context.caller.tenantID
        guard let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text),
            let detail = try await records.detail(of: id, tenantID: tenantID, readsPrompt: false)
        else { throw Refusal(.notFound, "There is no such request, or it is not yours to see.") }
        let kept = try Self.kept(detail)
        let tag = "\"\(kept.digest.hexadecimal)\""
        let headers = Self.headers(of: kept, id, tag: tag)
        if Self.names(tag, in: request.headers[.ifNoneMatch]) {
            return Response(status: .notModified, headers: headers)
        }
        // A range that was meant for another content gets the whole one.
        let isSame = request.headers[.ifRange].map { $0 == tag } ?? true
        var range = ByteRange(isSame ? request.headers[.range] : nil, length: kept.byteCount)
        if request.method == .head, range != .unsatisfiable { range = .whole }
        switch range {
        case .unsatisfiable:
            var refusal = Refusal(
                .rangeNotSatisfiable, "The result has \(kept.byteCount) bytes. Ask for a range that begins within them."
            )
            refusal.completeByteCount = kept.byteCount
            throw refusal
        case .whole:
            return try await answer(.ok, headers, request, id, tenantID, 0..<kept.byteCount)
        case .part(let bytes):
            var headers = headers
            headers[.contentRange] = "bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)/\(kept.byteCount)"
            return try await answer(.partialContent, headers, request, id, tenantID, bytes)
        }
    }

    private static func kept(_ detail: RequestDetail) throws(Refusal) -> ResultState.Kept {
        switch detail.result {
        case .kept(let kept): return kept
        case .gone: throw .resultGone
        case .digest:
            throw Refusal(
                .notFound,
                "Only the digest of the result was kept: see result.sha256 of the request, and your retention.")
        case .none:
            throw Refusal(
                .notFound,
                detail.row.completedAt == nil
                    ? "The request has no result yet. Ask again when its status is completed."
                    : "Nothing was kept of the request's result. It failed, or your retention keeps none.")
        }
    }

    /// Never shown in place, and no script of it runs if a browser shows it all the same.
    private static func headers(of kept: ResultState.Kept, _ id: Domain.RequestID, tag: String) -> HTTPFields {
        var headers: HTTPFields = [
            .contentType: kept.mediaType, .acceptRanges: "bytes", .eTag: tag,
            .contentDisposition: "attachment; filename=\"\(id.publicText)\(fileEnding(kept.mediaType))\"",
            .cacheControl: "private, no-cache",
        ]
        headers[.contentSecurityPolicy] = "sandbox; default-src 'none'"
        return headers
    }

    private static func fileEnding(_ mediaType: String) -> String {
        switch mediaType {
        case "application/json": ".json"
        case "image/png": ".png"
        case "image/jpeg": ".jpg"
        case "image/webp": ".webp"
        case "image/gif": ".gif"
        case "audio/mpeg": ".mp3"
        case "audio/wav", "audio/x-wav": ".wav"
        case "audio/ogg": ".ogg"
        case "application/x-npy": ".npy"
        default: ".bin"
        }
    }

    /// Whether a list of entity tags names this one, or all (RFC 9110, section 13.1.2).
    private static func names(_ tag: String, in field: String?) -> Bool {
        guard let field else { return false }
        return field.split(separator: ",").contains { part in
            let name = part.filter { $0 != " " && $0 != "\t" }
            return name == "*" || name == tag || name == "W/\(tag)"
        }
    }

    private func answer(
        _ status: HTTPResponse.Status, _ headers: HTTPFields, _ request: Request, _ id: Domain.RequestID,
        _ tenantID: TenantID, _ range: Range<Int>
    ) async throws -> Response {
        guard request.method != .head else {
            // Of HEAD the head alone is sent; what would follow need not be read.
            var headers = headers
            headers[.contentLength] = String(range.count)
            return Response(status: status, headers: headers)
        }
        guard let bytes = try await records.resultBytes(of: id, tenantID: tenantID, range: range) else {
            throw Refusal.resultGone
        }
        return Response(status: status, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}

extension Refusal {
    static let resultGone = Refusal(
        .resultGone, "The result was kept for its time and is gone. Send the request again if you need one.")
}

extension [UInt8] {
    /// In lower case.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
