internal import Domain
internal import HTTPListener
internal import Hummingbird

/// What the control plane knows of a request: its identifier, and who calls once that is established.
struct ControlContext: IdentifiedContext {
    var coreContext: CoreRequestContextStorage
    let requestID: Domain.RequestID
    /// Filled by ``CustomerAuthentication``; routes behind it have it.
    var principal: Principal?

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        var random = SystemRandomNumberGenerator()
        requestID = Domain.RequestID(at: SystemTime().now, using: &random)
    }
}
