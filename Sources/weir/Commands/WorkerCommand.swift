import ArgumentParser
import Domain
import Logging
import ReferenceWorker

struct WorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker",
        abstract: "Run the reference inference worker.",
        discussion: """
            Serves the built-in iris model, or the models of the given files, by the Open Inference Protocol v2 and \
            by POST /predict. Prints its URL when it listens, and runs until SIGINT or SIGTERM.

            Examples:
              weir worker --port 9000
              weir worker --model churn.json --model price.json
              weir worker --delay-ms 200 --journal answers.jsonl
              weir worker --host 10.0.0.5 --port 9000 --register
            """)

    @Option(help: "The address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "The port to listen on; 0 takes any free one.")
    var port = 0

    @Option(
        name: .customLong("model"), help: ArgumentHelp("A model file; may be given several times.", valueName: "file"))
    var models: [String] = []

    @Option(help: ArgumentHelp("Append one line of JSON for every answered request.", valueName: "file"))
    var journal: String?

    @Flag(help: "Serve the models that misbehave on purpose, fault-…; for tests.")
    var allowFaults = false

    @Option(name: .customLong("delay-ms"), help: "Milliseconds that every answer is held back.")
    var delayMilliseconds = 0

    @Flag(help: "Print {\"url\": …} instead of the bare URL.")
    var json = false

    @Flag(help: "Stop when standard input ends, for a supervisor that may die.")
    var exitWithStdin = false

    @Flag(help: "Enter the table of routes by itself and stay in it by heartbeats. Needs WEIR_ADMIN_KEY.")
    var register = false

    @Option(name: .customLong("admin-url"), help: "WEIR_ADMIN_URL: where the admin API is.")
    var adminURL: String?

    @Option(help: ArgumentHelp("Where gateways reach it; its own host and port by default.", valueName: "host:port"))
    var advertise: String?

    @Option(help: "Its share of requests, 1 to 1000.")
    var weight = 1

    @Option(name: .customLong("ttl"), help: "Seconds that it may be silent before it leaves the table, 2 to 3600.")
    var lifetimeSeconds = 15

    @OptionGroup var settingsOptions: SettingsOptions

    func validate() throws {
        guard (0...65_535).contains(port) else { throw ValidationError("--port is from 0 to 65535") }
        guard (0...3_600_000).contains(delayMilliseconds) else {
            throw ValidationError("--delay-ms is from 0 to 3600000")
        }
        guard advertise.map({ WorkerAddress($0) != nil }) ?? true else {
            throw ValidationError("--advertise is host:port or [v6]:port")
        }
        guard advertise != nil || !register || !["0.0.0.0", "::"].contains(host) else {
            throw ValidationError("--advertise is needed where --host is every address")
        }
        guard (1...1_000).contains(weight) else { throw ValidationError("--weight is from 1 to 1000") }
        guard NewWorker.lifetimeSeconds.contains(Int64(lifetimeSeconds)) else {
            throw ValidationError("--ttl is from 2 to 3600")
        }
    }

    func run() async throws {
        Observability.bootstrap(level: .info, metrics: nil)
        let client = try register ? adminClient() : nil
        // Taken first: a signal that comes while the worker starts must stop it as well.
        let signals = StopSignals()
        let configuration = ReferenceWorkerServer.Configuration(
            host: host, port: port, journalPath: journal, delayMilliseconds: Int64(delayMilliseconds),
            allowsFaults: allowFaults)
        let server: ReferenceWorkerServer
        let listeningPort: Int
        let loaded: LoadedModels
        do {
            loaded = try models.isEmpty ? LoadedModels.builtIn() : LoadedModels.load(paths: models)
            server = ReferenceWorkerServer(
                models: loaded, configuration: configuration, logger: Logger(label: "weir.worker"))
            listeningPort = try await server.start()
        } catch {
            throw CommandFailure("\(error)")
        }
        let url = "http://\(host.contains(":") ? "[\(host)]" : host):\(listeningPort)"
        Terminal.say(json ? #"{"url":"\#(url)"}"# : url)
        if exitWithStdin { StandardInputWatch.stopProcessAtEnd() }
        if let client {
            await serve(loaded, at: "\(host.contains(":") ? "[\(host)]" : host):\(listeningPort)", client, signals)
        } else {
            _ = await signals.next()
        }
        await server.shutdown()
    }

    private func adminClient() throws -> AdminClient {
        let own = adminURL.map { ["WEIR_ADMIN_URL": $0] } ?? [:]
        return try AdminClient(try settingsOptions.load(own, required: ["WEIR_ADMIN_KEY"]))
    }

    /// Stays in the table of routes until a signal comes. After it has left, it answers as long as gateways may not have noticed.
    private func serve(_ loaded: LoadedModels, at address: String, _ client: AdminClient, _ signals: StopSignals) async
    {
        let registration = WorkerRegistration(
            client: client,
            entries: loaded.inventory.map { model in
                WorkerRegistration.Entry(
                    model: model.name, version: model.version, address: advertise ?? address,
                    protocol: WorkerProtocol.predict.rawValue, weight: weight, ttlSeconds: lifetimeSeconds)
            },
            logger: Logger(label: "weir.worker"))
        let stream = signals.stream
        await registration.run { for await _ in stream { return } }
        try? await Task.sleep(nanoseconds: Self.noticeMilliseconds * 1_000_000)
    }

    /// Within so long every gateway follows a change of the table.
    private static let noticeMilliseconds: UInt64 = 1_000
}
