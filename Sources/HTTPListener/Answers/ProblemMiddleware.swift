public import Domain
public import HTTPTypes
public import Hummingbird
internal import Logging
internal import NIOCore

/// A request of the framework's that has an identifier from the start.
public protocol IdentifiedContext: RequestContext {
    var requestID: Domain.RequestID { get }
}

/// Outermost: gives every answer its identifier and turns every error into what its path's dialect has for it. Nothing of an error that we did not write
/// ourselves reaches the caller.
public struct ProblemMiddleware<Context: IdentifiedContext>: RouterMiddleware {
    private let style: ProblemStyle
    private let maximumBodyBytes: Int
    private let methods: @Sendable (String) -> [String]

    /// - Parameters:
    ///   - maximumBodyBytes: what a route reads of a body at most.
    ///   - methods: those that a path has, for a 405; none for a path that there is not.
    public init(style: ProblemStyle, maximumBodyBytes: Int, methods: @escaping @Sendable (String) -> [String]) {
        self.style = style
        self.maximumBodyBytes = maximumBodyBytes
        self.methods = methods
    }

    public func handle(
        _ request: Request, context: Context, next: @concurrent (Request, Context) async throws -> Response
    ) async throws -> Response {
        var response: Response
        do {
            response = try await next(request, context)
        } catch {
            response = render(refusal(for: error, request), in: style.dialect(request.uri.path), context)
        }
        response.headers[.requestID] = context.requestID.publicText
        response.headers[.contentTypeOptions] = "nosniff"
        if let own = request.headers[.requestID].flatMap({ ClientRequestID($0) }) {
            response.headers[.clientRequestID] = own.text
        }
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
        return response
    }

    private func refusal(for error: any Error, _ request: Request) -> Refusal {
        switch error {
        case let refusal as Refusal: return refusal
        case AdministrationFailure.refused(let refusal): return refusal
        case AdministrationFailure.unavailable(let outage): return .storageUnavailable(cause: outage.cause)
        case let outage as StoreUnavailable: return .storageUnavailable(cause: outage.cause)
        case is NIOTooManyBytesError: return .tooLarge(maximumBodyBytes)
        case let error as any HTTPResponseError: return refusal(ofFramework: error, request)
        default:
            return Refusal(
                .internalError,
                "Something failed on our side. Nothing was charged; the request id finds it in our log.",
                cause: String(reflecting: type(of: error)))
        }
    }

    /// For what the framework refuses by itself.
    private func refusal(ofFramework error: any HTTPResponseError, _ request: Request) -> Refusal {
        switch error.status.code {
        case 404:
            let methods = methods(request.uri.path)
            guard !methods.isEmpty, !methods.contains(request.method.rawValue) else {
                return Refusal(.notFound, "There is nothing at this path, or it is not yours to see.")
            }
            var refusal = Refusal(.methodNotAllowed, "This path answers \(methods.joined(separator: ", ")).")
            refusal.allowedMethods = methods
            return refusal
        case 413: return .tooLarge(maximumBodyBytes)
        default: return Refusal(.badRequest, "The request is malformed.")
        }
    }

    private func render(_ refusal: Refusal, in dialect: ErrorDialect, _ context: Context) -> Response {
        let status = dialect.status(of: refusal.code)
        if status >= 500 {
            context.logger.log(
                level: status == 500 ? .error : .warning, "request failed",
                metadata: [
                    "request_id": "\(context.requestID.publicText)", "code": "\(refusal.code.rawValue)",
                    "cause": "\(refusal.cause ?? "")",
                ])
        }
        style.count(refusal.code)
        var headers = HTTPFields()
        headers[.contentType] = dialect.contentType.description
        headers[.weirError] = refusal.code.rawValue
        for (name, value) in refusal.fields {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        // Whatever is left of such a body is not read; the guard ends the connection that says so.
        if refusal.code == .requestTooLarge { headers[.connection] = "close" }
        return Response(
            status: .init(code: status), headers: headers,
            body: .init(
                byteBuffer: ProblemAnswer.body(
                    refusal, in: dialect, requestID: context.requestID, instance: style.instance)))
    }
}

extension HTTPField.Name {
    // The names are constants of ours and valid; a name that were not would simply not be sent.
    public static let requestID = HTTPField.Name("x-request-id") ?? .server
    public static let clientRequestID = HTTPField.Name("x-client-request-id") ?? .server
    public static let contentTypeOptions = HTTPField.Name("x-content-type-options") ?? .server
    public static let weirError = HTTPField.Name("x-weir-error") ?? .server
}
