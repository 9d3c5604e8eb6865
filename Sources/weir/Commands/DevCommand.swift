import ArgumentParser
import Foundation
import Logging

struct DevCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dev",
        abstract: "Start everything in a folder of its own, with a demo tenant, and say what to try.",
        discussion: """
            Starts a private PostgreSQL (on a Unix socket, never as root), Redis where redis-server is installed, \
            the reference worker with the iris model, and the gateway; migrates, makes a tenant with the tiers \
            basic, standard and premium, a customer key, an admin key and a route, and makes one prediction. Started \
            again on the same folder it goes on with the same data and the same keys. Ctrl-C stops everything that \
            it started.

            Examples:
              weir dev
              weir dev --port 9000 --admin-port 9001 --data-dir /srv/weir-demo
              weir dev --port 0 --admin-port 0 --json > weir.json
            """)

    @Option(help: ArgumentHelp("Where the data is kept.", valueName: "dir"))
    var dataDir = ".weir"

    @Option(help: "The port of the public listener; 0 takes any free one.")
    var port = 8080

    @Option(help: "The port of the admin listener; 0 takes any free one.")
    var adminPort = 8081

    @Flag(help: "Run without Redis even if it is installed.")
    var noRedis = false

    @Flag(help: "When everything is ready, print one JSON object and nothing else on standard output.")
    var json = false

    func validate() throws {
        guard (0...65_535).contains(port), (0...65_535).contains(adminPort) else {
            throw ValidationError("--port and --admin-port are from 0 to 65535")
        }
        guard port == 0 || port != adminPort else { throw ValidationError("--port and --admin-port must differ") }
        guard !dataDir.isEmpty else { throw ValidationError("--data-dir must not be empty") }
    }

    func run() async throws {
        LoggingSystem.bootstrap { _ in SwiftLogNoOpLogHandler() }
        let signals = StopSignals()
        let options = DevInstallation.Options(
            dataFolder: URL(fileURLWithPath: dataDir).path, port: port, adminPort: adminPort, usesRedis: !noRedis)
        let installation = try DevInstallation(options: options, environment: ProcessInfo.processInfo.environment)
        try installation.makeDataFolder()
        let lock = try DevLock(path: installation.layout.lockPath)
        // Children inherit the current folder, and PostgreSQL's user may not be allowed into ours.
        guard FileManager.default.changeCurrentDirectoryPath("/") else {
            throw CommandFailure("cannot enter the folder /")
        }
        let supervisor = DevSupervisor(
            installation: installation, children: DevChildren(recordPath: installation.layout.childrenPath)
        ) { Terminal.complain($0) }
        let printsJSON = json
        try await supervisor.run(signals: signals.stream) { report in
            if printsJSON {
                Terminal.say((try? report.json()) ?? "")
                Terminal.complain("Ready at \(report.publicURL)")
            } else {
                Terminal.say(report.screen)
            }
        }
        _ = consume lock
        withExtendedLifetime(signals) {}
    }
}
