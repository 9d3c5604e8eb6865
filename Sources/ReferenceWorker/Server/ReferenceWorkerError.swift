/// Why a worker did not start.
public enum ReferenceWorkerError: Error, Equatable, CustomStringConvertible {
    case invalidConfiguration(String)
    /// The journal cannot be opened for appending.
    case journalUnavailable(path: String, errorNumber: Int32)
    /// The address cannot be listened on.
    case cannotListen(host: String, port: Int, reason: String)
    /// `start` was called before, or `shutdown` was.
    case notStartable

    public var description: String {
        switch self {
        case .invalidConfiguration(let complaint): "reference worker: \(complaint)"
        case .journalUnavailable(let path, let errorNumber):
            "reference worker: the journal \(path) cannot be opened, error \(errorNumber)"
        case .cannotListen(let host, let port, let reason):
            "reference worker: cannot listen on \(host) port \(port): \(reason)"
        case .notStartable: "reference worker: it was started or stopped before"
        }
    }

    /// One of a handful of words, fit for the label of a metric.
    public var metricLabel: String {
        switch self {
        case .invalidConfiguration: "invalid_configuration"
        case .journalUnavailable: "journal_unavailable"
        case .cannotListen: "cannot_listen"
        case .notStartable: "not_startable"
        }
    }
}
