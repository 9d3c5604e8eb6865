import ArgumentParser
import Domain

struct RoutesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "routes",
        abstract: "Say which workers answer for a model.",
        discussion: """
            Every gateway follows a change within a second.

            Examples:
              weir routes set iris 127.0.0.1:9000
              weir routes set iris '10.0.0.5:9000*3' 10.0.0.6:9000 --protocol predict
              weir routes delete iris
            """,
        subcommands: [List.self, Set.self, Delete.self])

    static func table(_ routes: [AdminRoute]) -> String {
        var table = TextTable(["model", "worker", "protocol", "weight", "version", "updated"])
        for route in routes {
            for replica in route.replicas {
                table.add([
                    route.model, replica.address, replica.protocol, replica.weight.map(String.init) ?? "1",
                    replica.version, route.updatedAt,
                ])
            }
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the routes.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["routes"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminRoute>.self)
                page.mention(list)
                return RoutesCommand.table(list.data)
            }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Replace a model's workers by the given ones.")
        @Argument(help: "The model's name.") var model: String
        @Argument(
            help: ArgumentHelp(
                "Workers; a weight from 1 to 1000 may stand behind a star.", valueName: "host:port[*weight]"))
        var workers: [String]
        @Option(
            name: .customLong("protocol"),
            help: "How they are spoken to: oip (Open Inference Protocol v2), predict, or openai (the OpenAI API).")
        var workerProtocol = WorkerProtocol.oip.rawValue
        @Option(help: "The model version that they serve; the model's own where it is left out.") var version: String?
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            _ = try replicas()
        }

        func replicas() throws -> [AdminReplica] {
            guard WorkerProtocol(rawValue: workerProtocol) != nil else {
                throw ValidationError("--protocol is oip, predict or openai")
            }
            return try workers.map { try Self.replica($0, workerProtocol, version) }
        }

        static func replica(_ text: String, _ workerProtocol: String, _ version: String?) throws -> AdminReplica {
            let parts = text.split(separator: "*", maxSplits: 1, omittingEmptySubsequences: false)
            let weight = parts.count == 2 ? Int(parts[1]) : 1
            guard WorkerAddress(parts[0]) != nil, let weight, (1...1_000).contains(weight) else {
                throw ValidationError("\(text): expected host:port or [v6]:port, and perhaps *weight from 1 to 1000")
            }
            return AdminReplica(address: String(parts[0]), protocol: workerProtocol, weight: weight, version: version)
        }

        func run() async throws {
            let call = try AdminRequest(.put, ["routes", model], body: ["replicas": replicas()])
            try await admin.send(call) { RoutesCommand.table([try $0.decoded(AdminRoute.self)]) }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a model's route away; requests for it are refused.")
        @Argument(help: "The model's name.") var model: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.delete, ["routes", model])) { _ in "The route of \(model) is gone." }
        }
    }
}
