import ArgumentParser
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

    func validate() throws {
        guard (0...65_535).contains(port) else { throw ValidationError("--port is from 0 to 65535") }
        guard (0...3_600_000).contains(delayMilliseconds) else {
            throw ValidationError("--delay-ms is from 0 to 3600000")
        }
    }

    func run() async throws {
        Observability.bootstrap(level: .info, metrics: nil)
        // Taken first: a signal that comes while the worker starts must stop it as well.
        let signals = StopSignals()
        let configuration = ReferenceWorkerServer.Configuration(
            host: host, port: port, journalPath: journal, delayMilliseconds: Int64(delayMilliseconds),
            allowsFaults: allowFaults)
        let server: ReferenceWorkerServer
        let listeningPort: Int
        do {
            let loaded = try models.isEmpty ? LoadedModels.builtIn() : LoadedModels.load(paths: models)
            server = ReferenceWorkerServer(
                models: loaded, configuration: configuration, logger: Logger(label: "weir.worker"))
            listeningPort = try await server.start()
        } catch {
            throw CommandFailure("\(error)")
        }
        let url = "http://\(host.contains(":") ? "[\(host)]" : host):\(listeningPort)"
        Terminal.say(json ? #"{"url":"\#(url)"}"# : url)
        if exitWithStdin { StandardInputWatch.stopProcessAtEnd() }
        _ = await signals.next()
        await server.shutdown()
    }
}
