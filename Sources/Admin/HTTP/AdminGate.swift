internal import Domain
internal import HTTPListener
internal import Hummingbird

/// Lets a request through to its route: the key first, so that nobody learns anything without one, then the scope, then
/// the query.
struct AdminGate: Sendable {
    let authenticator: any AdminAuthenticator
    let entry: AdminRouteCatalog.Entry
    let maximumBodyBytes: Int

    func admit(_ request: Request, _ context: AdminContext) async throws(Refusal) -> AdminCall {
        let key = try Self.credentials(of: request)
        let principal: AdminPrincipal
        do throws(Refusal) {
            principal = try await authenticator.administrator(presenting: key)
        } catch {
            // The authenticator is the gateway's, where nothing may be served that cannot be recorded. Here it is
            // simply the database.
            guard error.code == .meteringUnavailable else { throw error }
            throw .storageUnavailable(cause: error.cause ?? "key lookup failed")
        }
        guard !principal.scopes.isDisjoint(with: entry.scopes) else {
            let names = entry.scopes.map(\.rawValue).sorted().joined(separator: " or ")
            throw Refusal(.insufficientScope, "The key lacks the scope \(names). Use a key that has it.")
        }
        return AdminCall(
            request: request, context: context, principal: principal,
            query: try QueryParameters(request, allowed: entry.parameters), maximumBodyBytes: maximumBodyBytes)
    }

    /// What stands behind `Bearer`. Another scheme is passed on whole: it is no key, and refused as such.
    private static func credentials(of request: Request) throws(Refusal) -> [UInt8]? {
        let values = request.headers[values: .authorization]
        guard let value = values.first else { return nil }
        guard values.count == 1 else {
            throw Refusal(.invalidAPIKey, "The header Authorization is there more than once. Send it once.")
        }
        let scheme = "bearer "
        guard value.utf8.count > scheme.utf8.count, value.prefix(scheme.count).lowercased() == scheme else {
            return Array(value.utf8)
        }
        return Array(value.utf8.dropFirst(scheme.utf8.count))
    }
}
