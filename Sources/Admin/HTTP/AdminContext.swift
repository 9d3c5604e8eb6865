internal import Domain
internal import HTTPListener
internal import Hummingbird

/// What the admin listener knows of a request from the start.
struct AdminContext: IdentifiedContext {
    var coreContext: CoreRequestContextStorage
    let requestID: Domain.RequestID

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        var random = SystemRandomNumberGenerator()
        requestID = Domain.RequestID(at: WallClock.now, using: &random)
    }
}

/// A request whose caller is known and may make it.
struct AdminCall: Sendable {
    var request: Request
    let context: AdminContext
    let principal: AdminPrincipal
    let query: QueryParameters
    /// What is read of the body at most.
    let maximumBodyBytes: Int
    /// Under which the change is made once; see ``ChangeReplay``.
    var claim: ChangeClaim?

    var actor: AuditActor {
        var actor = AuditActor.key(principal.publicID)
        actor.claim = claim
        return actor
    }

    /// A part of the path; a malformed id is unknown.
    func tenantID() throws(Refusal) -> TenantID {
        guard let text = context.parameters.get("id"), let id = TenantID(text) else {
            throw Refusal(.notFound, "There is no such tenant.")
        }
        return id
    }
}
