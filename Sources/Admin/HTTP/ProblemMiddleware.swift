internal import Domain
internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import NIOCore

/// Outermost: gives every answer its identifier and turns every error into problem details. Nothing of an error that we
/// did not write ourselves reaches the caller.
struct ProblemMiddleware: RouterMiddleware {
    typealias Context = AdminContext

    /// How long a caller whose body we will not read may take to read our answer.
    private static let lingering = TimeAmount.seconds(2)

    func handle(
        _ request: Request, context: AdminContext, next: @concurrent (Request, AdminContext) async throws -> Response
    ) async throws -> Response {
        var response: Response
        do {
            response = try await next(request, context)
        } catch {
            let refusal = Self.refusal(for: error, request: request)
            response = try Self.render(refusal, request, context)
        }
        response.headers[.requestID] = context.requestID.publicText
        response.headers[.contentTypeOptions] = "nosniff"
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
        return response
    }

    private static func refusal(for error: any Error, request: Request) -> Refusal {
        switch error {
        case let refusal as Refusal: return refusal
        case AdministrationFailure.refused(let refusal): return refusal
        case AdministrationFailure.unavailable(let outage): return .storageUnavailable(cause: outage.cause)
        case let outage as StoreUnavailable: return .storageUnavailable(cause: outage.cause)
        case let error as any HTTPResponseError: return refusal(for: error, request: request)
        default:
            return Refusal(
                .internalError, "Something failed on our side. The request id finds it in our log.",
                cause: String(reflecting: type(of: error)))
        }
    }

    /// For what the framework refuses by itself.
    private static func refusal(for error: any HTTPResponseError, request: Request) -> Refusal {
        guard error.status.code == 404 else { return Refusal(.badRequest, "The request is malformed.") }
        let methods = AdminRouteCatalog.methods(for: request.uri.path)
        guard !methods.isEmpty, !methods.contains(request.method.rawValue) else {
            return Refusal(.notFound, "There is nothing at this path.")
        }
        var refusal = Refusal(.methodNotAllowed, "This path answers \(methods.joined(separator: ", ")).")
        refusal.allowedMethods = methods
        return refusal
    }

    private static func render(_ refusal: Refusal, _ request: Request, _ context: AdminContext) throws -> Response {
        AdminMetrics.refused(refusal.code)
        if refusal.code.httpStatus >= 500 {
            context.logger.warning(
                "admin request failed",
                metadata: [
                    "request_id": "\(context.requestID.publicText)", "code": "\(refusal.code.rawValue)",
                    "cause": "\(refusal.cause ?? "")",
                ])
        }
        var response = try Response.json(
            Problem(refusal, context.requestID), status: .init(code: refusal.code.httpStatus))
        response.headers[.contentType] = "application/problem+json"
        response.headers[.weirError] = refusal.code.rawValue
        if refusal.code.httpStatus == 401 { response.headers[.wwwAuthenticate] = "Bearer" }
        if let seconds = refusal.retryAfterSeconds { response.headers[.retryAfter] = String(seconds) }
        if !refusal.allowedMethods.isEmpty { response.headers[.allow] = refusal.allowedMethods.joined(separator: ", ") }
        if hasUnreadBody(request) {
            response.headers[.connection] = "close"
            // Closing at once would reset the connection and could take the answer with it.
            context.channel.eventLoop.scheduleTask(in: lingering) { [channel = context.channel] in
                channel.close(promise: nil)
            }
        }
        return response
    }

    /// Whether there may be more of a body than is worth reading: it would be drained before the next request.
    private static func hasUnreadBody(_ request: Request) -> Bool {
        if request.headers[.transferEncoding] != nil { return true }
        guard let length = request.headers[.contentLength] else { return false }
        return Int(length).map { $0 > RequestBodyReader.byteLimit } ?? true
    }
}

/// RFC 9457 with our extensions.
private struct Problem: Encodable {
    struct FieldError: Encodable {
        let location: String
        let message: String
        let fix: String
    }

    let type: String
    let title: String
    let status: Int
    let detail: String
    let instance: String
    let code: String
    let requestID: String
    let errors: [FieldError]

    enum CodingKeys: String, CodingKey {
        case type, title, status, detail, instance, code, errors
        case requestID = "request_id"
    }

    init(_ refusal: Refusal, _ id: Domain.RequestID) {
        type = refusal.code.typeURI
        title = refusal.code.title
        status = refusal.code.httpStatus
        detail = refusal.detail
        instance = "urn:uuid:\(id)"
        code = refusal.code.rawValue
        requestID = id.publicText
        errors = refusal.errors.map { FieldError(location: $0.location, message: $0.message, fix: $0.fix) }
    }
}

extension HTTPField.Name {
    // The names are constants of ours and valid; a name that were not would simply not be sent.
    static let requestID = HTTPField.Name("x-request-id") ?? .server
    static let contentTypeOptions = HTTPField.Name("x-content-type-options") ?? .server
    static let weirError = HTTPField.Name("x-weir-error") ?? .server
}
