import ArgumentParser
import CoreMetrics
import Foundation
import Logging

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve the public and the admin listener, and run the jobs.",
        discussion: """
            Needs DATABASE_URL and WEIR_KEY_PEPPER; everything else has a default. The database must be migrated \
            first (`weir migrate up`). It stops gracefully on SIGTERM and SIGINT: requests in flight are answered \
            and settled.

            Examples:
              DATABASE_URL=postgresql://weir@db/weir \\
                WEIR_KEY_PEPPER_FILE=/run/secrets/pepper weir serve
              weir serve --roles gateway --port 8090 --config /etc/weir.conf
              weir serve --print-routes admin

            Settings, with their defaults:
            \(Settings.helpText)
            """)

    @OptionGroup var settingsOptions: SettingsOptions

    @Option(help: "WEIR_HOST: the address of the public listener.")
    var host: String?

    @Option(help: "WEIR_PORT: the port of the public listener; 0 takes any free one.")
    var port: String?

    @Option(help: "WEIR_ADMIN_HOST: the address of the admin listener.")
    var adminHost: String?

    @Option(help: "WEIR_ADMIN_PORT: the port of the admin listener; 0 takes any free one.")
    var adminPort: String?

    @Option(help: "WEIR_ROLES: any of gateway,admin,jobs,dispatcher.")
    var roles: String?

    @Option(help: "WEIR_LOG_LEVEL: trace, debug, info, notice, warning, error or critical.")
    var logLevel: String?

    @Option(defaultAsFlag: PrintedListener.public, help: "Print the routes of a listener and exit.")
    var printRoutes: PrintedListener?

    @Flag(help: .hidden)
    var exitWithStdin = false

    /// A listener whose routes can be printed.
    enum PrintedListener: String, ExpressibleByArgument, CaseIterable {
        case `public`
        case admin
    }

    /// The variables that the flags of this command set.
    var ownFlags: [String: String] {
        [
            "WEIR_HOST": host, "WEIR_PORT": port, "WEIR_ADMIN_HOST": adminHost, "WEIR_ADMIN_PORT": adminPort,
            "WEIR_ROLES": roles,
            "WEIR_LOG_LEVEL": logLevel,
        ].compactMapValues { $0 }
    }

    func run() async throws {
        if let printRoutes {
            for route in ServerComposition.routes(of: printRoutes) { Terminal.say(route) }
            return
        }
        if exitWithStdin { StandardInputWatch.stopProcessAtEnd() }
        try await serve(prepare())
    }

    private struct Prepared {
        let settings: Settings
        let metrics: PrometheusRegistry
        let logger: Logger
    }

    /// Reads the settings and installs logging and metrics.
    ///
    /// Neither this nor the next function may be inlined into `run`: the optimiser of Swift 6.3 crashes splitting the coroutine that
    /// comes of it.
    @inline(never)
    private func prepare() throws -> Prepared {
        #if WEIR_UNMETERED_BASELINE
            try UnmeteredBaseline.confirm(ProcessInfo.processInfo.environment)
        #endif
        let settings = try settingsOptions.load(ownFlags, required: Settings.requiredToServe)
        let metrics = PrometheusRegistry()
        Observability.bootstrap(level: settings.logLevel, metrics: settings.metricsEnabled ? metrics : nil)
        let logger = Logger(label: "weir.serve")
        for warning in settings.warnings {
            logger.warning("The configuration has an oddity", metadata: ["detail": "\(warning)"])
        }
        return Prepared(settings: settings, metrics: metrics, logger: logger)
    }

    @inline(never)
    private func serve(_ prepared: Prepared) async throws {
        try await ServerComposition.run(settings: prepared.settings, logger: prepared.logger, metrics: prepared.metrics)
    }
}
