internal import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Work that is repeated for as long as the process runs: one attempt, a pause, the next. A failed attempt is logged and tried again; it
/// never ends the service, and a stop ends the pause at once.
public struct Recurring: Service {
    private let name: String
    private let pauseMilliseconds: Int64
    private let logger: Logger
    private let work: @Sendable () async throws -> Void

    /// - Parameters:
    ///   - name: for the log and the metric; one of a few constants.
    ///   - pauseMilliseconds: between the end of one attempt and the next.
    public init(
        _ name: String, everyMilliseconds pauseMilliseconds: Int64, logger: Logger,
        work: @escaping @Sendable () async throws -> Void
    ) {
        self.name = name
        self.pauseMilliseconds = pauseMilliseconds
        self.logger = logger
        self.work = work
    }

    public func run() async throws {
        let failures = Counter(label: "weir_job_failures_total", dimensions: [("job", name)])
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do {
                    try await work()
                } catch {
                    // Whatever work that was stopped in the middle says, it has not failed.
                    guard !Task.isCancelled else { return }
                    failures.increment()
                    logger.warning(
                        "a job failed and is tried again",
                        metadata: ["job": "\(name)", "cause": "\(Self.cause(error))"])
                }
                try? await Task.sleep(nanoseconds: UInt64(pauseMilliseconds) * 1_000_000)
            }
        }
    }

    private static func cause(_ error: any Error) -> String {
        (error as? StoreUnavailable)?.cause ?? String(reflecting: type(of: error))
    }
}
