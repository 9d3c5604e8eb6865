import ArgumentParser

struct WorkersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workers",
        abstract: "List and remove workers that registered themselves.",
        discussion: """
            A worker registers itself with `weir worker --register`, or through POST /admin/v1/workers. It leaves the \
            table of routes when its heartbeats stop.

            Examples:
              weir workers list
              weir workers remove 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b
            """,
        subcommands: [List.self, Remove.self])

    static func table(_ workers: [AdminWorker]) -> String {
        var table = TextTable(["id", "model", "version", "worker", "protocol", "weight", "ttl", "state", "expires"])
        for worker in workers {
            table.add([
                worker.id, worker.model, worker.version, worker.address, worker.protocol, String(worker.weight),
                String(worker.ttlSeconds), worker.state, worker.expiresAt,
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the workers, newest first.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["workers"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminWorker>.self)
                page.mention(list)
                return WorkersCommand.table(list.data)
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a worker out of the table; one that still runs may register anew.")
        @Argument(help: "The worker's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.delete, ["workers", id])) { _ in "The worker \(id) is gone." }
        }
    }
}
