internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOHTTP1

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
