internal import Domain
internal import Hummingbird
internal import NIOCore

/// Reads a body that must be one JSON object.
enum RequestBodyReader {
    static let byteLimit = 262_144

    static func object(_ call: AdminCall, fields: Set<String>) async throws(Refusal) -> InputObject {
        let headers = call.request.headers
        let mediaType = headers[.contentType]?.split(separator: ";", maxSplits: 1).first.map {
            $0.filter { $0 != " " && $0 != "\t" }.lowercased()
        }
        guard mediaType == "application/json" else {
            throw Refusal(.unsupportedMediaType, "The body must be JSON. Send Content-Type: application/json.")
        }
        guard headers[.contentEncoding].map({ $0.lowercased() == "identity" }) ?? true else {
            throw Refusal(.unsupportedEncoding, "The body must not be compressed. Leave Content-Encoding out.")
        }
        if let length = headers[.contentLength].flatMap({ Int($0) }), length > byteLimit { throw tooLarge }
        let buffer: ByteBuffer
        do {
            buffer = try await call.request.body.collect(upTo: byteLimit)
        } catch is NIOTooManyBytesError {
            throw tooLarge
        } catch {
            throw Refusal(.badRequest, "The body did not arrive whole.")
        }
        let value = try JSONDocument.parse(Array(buffer.readableBytesView))
        guard case .object(let members) = value else {
            throw Refusal(
                .invalidJSON, "The body must be a JSON object.",
                errors: [Refusal.FieldError(location: "", message: "must be a JSON object", fix: "Send {...}.")])
        }
        return InputObject(members, at: "", fields: fields, problems: InputProblems())
    }

    private static let tooLarge = Refusal(.requestTooLarge, "The body is larger than \(byteLimit) bytes.")
}
