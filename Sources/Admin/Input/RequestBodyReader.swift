internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// Reads a body that must be one JSON object.
enum RequestBodyReader {
    static func object(_ call: AdminCall, fields: Set<String>) async throws(Refusal) -> InputObject {
        let headers = call.request.headers
        guard headers[.contentType].map({ MediaType.isJSON($0) }) ?? false else {
            throw Refusal(.unsupportedMediaType, "The body must be JSON. Send Content-Type: application/json.")
        }
        guard headers[.contentEncoding].map({ $0.lowercased() == "identity" }) ?? true else {
            throw Refusal(.unsupportedEncoding, "The body must not be compressed. Leave Content-Encoding out.")
        }
        let buffer: ByteBuffer
        do {
            buffer = try await call.request.body.collect(upTo: call.maximumBodyBytes)
        } catch is NIOTooManyBytesError {
            throw .tooLarge(call.maximumBodyBytes)
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
}
