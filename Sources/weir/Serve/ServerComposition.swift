import Logging

/// Puts the server together.
enum ServerComposition {
    /// Runs until the process is told to stop.
    @concurrent
    static func run(settings: Settings, logger: Logger, metrics: PrometheusRegistry) async throws {
        throw CommandFailure("this build has no server yet")
    }

    /// One line for each route of a listener: method, path.
    static func routes(of listener: ServeCommand.PrintedListener) -> [String] { [] }
}
