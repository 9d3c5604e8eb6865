/// Models that misbehave on purpose, for tests of whatever calls a worker. They exist only where
/// `Configuration.allowsFaults` is set, and take features of any count.
enum FaultModel: String, CaseIterable, Sendable {
    /// Answers after `Configuration.slowFaultMilliseconds`.
    case slow = "fault-slow"
    /// 500.
    case error = "fault-500"
    /// 200 with a body that is not JSON, called JSON.
    case garbage = "fault-garbage"
    /// Closes the connection in the middle of the body.
    case hangUp = "fault-hang-up"
    /// 200 with valid JSON of 64 MiB.
    case huge = "fault-huge"
    /// Reports 10^18 tokens in and as many out.
    case lying = "fault-lying"
    /// Reports a negative number of tokens.
    case negative = "fault-negative"
    /// 302 to a page of this worker that answers 200, so that a client that follows takes it for an answer.
    case redirect = "fault-redirect"
    /// Declares a shorter body than it sends and keeps the connection open: the rest must not be taken for the next
    /// answer.
    case wrongLength = "fault-wrong-length"

    static let prefix = "fault-"
    static let version = "1"
    static let hugeBodyBytes = 64 * 1024 * 1024

    /// Whether an inference takes place, which then stands in the journal, before the answer goes wrong.
    var executes: Bool {
        switch self {
        case .slow, .garbage, .hangUp, .huge, .lying, .negative, .wrongLength: true
        case .error, .redirect: false
        }
    }
}
