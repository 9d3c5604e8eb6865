import NIOHTTP1

/// A request that is answered with an error: the status, and one sentence that says what to change.
struct Refusal: Error {
    let status: HTTPResponseStatus
    let message: String

    static func badRequest(_ message: String) -> Refusal { Refusal(status: .badRequest, message: message) }
    static func notFound(_ message: String) -> Refusal { Refusal(status: .notFound, message: message) }

    init(status: HTTPResponseStatus, message: String) {
        self.status = status
        self.message = message
    }

    init(_ error: JSONError) {
        self.init(status: .badRequest, message: error.description)
    }
}
