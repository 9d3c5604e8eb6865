internal import Domain
internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import NIOCore
internal import NIOHTTP1

/// Outermost: gives every answer its identifier and turns every error into problem details. Nothing of an error that we did not write
/// ourselves reaches the caller.
struct ProblemMiddleware: RouterMiddleware {
    typealias Context = ControlContext

    func handle(
        _ request: Request, context: ControlContext,
        next: @concurrent (Request, ControlContext) async throws -> Response
    ) async throws -> Response {
        var response: Response
        do {
            response = try await next(request, context)
        } catch let refusal as Refusal {
            response = Self.render(refusal, context)
        } catch let error as any HTTPResponseError {
            response = Self.render(Self.refusal(for: error, request: request), context)
        } catch is StoreUnavailable {
            response = Self.render(
                Refusal(
                    .storageUnavailable, "The database cannot be reached at the moment. Try again in a few seconds.",
                    retryAfterSeconds: 2),
                context)
        } catch {
            context.logger.error(
                "request failed",
                metadata: [
                    "request_id": "\(context.requestID.publicText)", "cause": "\(String(reflecting: type(of: error)))",
                ])
            response = Self.render(
                Refusal(.internalError, "Something failed on our side. Nothing was charged."), context)
        }
        response.headers[.requestID] = context.requestID.publicText
        response.headers[.contentTypeOptions] = "nosniff"
        if let own = request.headers[.requestID].flatMap({ ClientRequestID($0) }) {
            response.headers[.clientRequestID] = own.text
        }
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
        return response
    }

    private static func refusal(for error: any HTTPResponseError, request: Request) -> Refusal {
        switch error.status.code {
        case 404:
            let methods = RouteCatalog.methods(for: request.uri.path)
            guard !methods.isEmpty, !methods.contains(request.method.rawValue) else {
                return Refusal(.notFound, "There is nothing at this path, or it is not yours to see.")
            }
            var refusal = Refusal(.methodNotAllowed, "This path answers \(methods.joined(separator: ", ")).")
            refusal.allowedMethods = methods
            return refusal
        case 413: return .tooLarge(1_048_576)
        default: return Refusal(.badRequest, "The request is malformed.")
        }
    }

    static func render(_ refusal: Refusal, _ context: ControlContext) -> Response {
        if refusal.code.httpStatus >= 500 {
            context.logger.warning(
                "request failed",
                metadata: [
                    "request_id": "\(context.requestID.publicText)", "code": "\(refusal.code.rawValue)",
                    "cause": "\(refusal.cause ?? "")",
                ])
        }
        RequestMetrics.refused(refusal.code, route: "control")
        var headers = HTTPFields()
        headers[.contentType] = "application/problem+json"
        for (name, value) in refusal.fields {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        if let name = HTTPField.Name("x-weir-error") { headers[name] = refusal.code.rawValue }
        return Response(
            status: .init(code: refusal.code.httpStatus), headers: headers,
            body: .init(byteBuffer: AnswerBody.problem(refusal, requestID: context.requestID)))
    }
}

/// Establishes who calls. Must run inside ``ProblemMiddleware``; afterwards `context.principal` is set and has the scope.
struct CustomerAuthentication: RouterMiddleware {
    typealias Context = ControlContext

    let keys: KeyCache
    /// `nil`: any key of a customer.
    let scope: Scope?

    func handle(
        _ request: Request, context: ControlContext,
        next: @concurrent (Request, ControlContext) async throws -> Response
    ) async throws -> Response {
        var headers = HTTPHeaders()
        for field in request.headers { headers.add(name: field.name.rawName, value: field.value) }
        let principal = try await keys.customer(for: RequestFields(headers).credentials)
        if let scope, !principal.scopes.contains(scope) {
            throw Refusal(.insufficientScope, "The key lacks the scope \(scope.rawValue). Use a key that has it.")
        }
        var context = context
        context.principal = principal
        return try await next(request, context)
    }
}

extension HTTPField.Name {
    // The names are constants of ours and valid; a name that were not would simply not be sent.
    static let requestID = HTTPField.Name("x-request-id") ?? .server
    static let clientRequestID = HTTPField.Name("x-client-request-id") ?? .server
    static let contentTypeOptions = HTTPField.Name("x-content-type-options") ?? .server
}

extension ControlContext {
    /// The caller, on routes behind ``CustomerAuthentication``.
    var caller: Principal {
        get throws(Refusal) {
            guard let principal else {
                throw Refusal(.internalError, "Something failed on our side.", cause: "route without authentication")
            }
            return principal
        }
    }
}
