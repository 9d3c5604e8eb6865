import ArgumentParser

struct QueueCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queue",
        abstract: "See the queue of jobs, and give dead ones another chance.",
        discussion: """
            Examples:
              weir queue show
              weir queue dead
              weir queue retry req_0195a3bf-30c4-7a52-bb10-6d7e8f901a2b
            """,
        subcommands: [Show.self, Dead.self, Retry.self], defaultSubcommand: Show.self)

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "How many jobs each tenant has.")
        @OptionGroup var admin: AdminOptions

        struct Answer: Decodable {
            let data: [Item]

            struct Item: Decodable {
                let tenantId: String
                let ready: Int64
                let waiting: Int64
                let processing: Int64
                let oldestReadySeconds: Int64?
            }
        }

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["queue"])) {
                let answer = try $0.decoded(Answer.self)
                var table = TextTable(["tenant", "ready", "waiting", "processing", "oldest_s"])
                for row in answer.data {
                    table.add([
                        row.tenantId, "\(row.ready)", "\(row.waiting)", "\(row.processing)",
                        row.oldestReadySeconds.map { "\($0)" },
                    ])
                }
                return table.text
            }
        }
    }

    struct Dead: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Jobs whose attempts are used up, newest first.")
        @Option(help: "How many, 1 to 100.") var limit: Int = 20
        @OptionGroup var admin: AdminOptions

        struct Answer: Decodable {
            let data: [Item]

            struct Item: Decodable {
                let id: String
                let tenantId: String
                let model: String
                let attempts: Int64
                let errorCode: String
                let errorDetail: String
                let endedAt: String
            }
        }

        func validate() throws {
            guard (1...100).contains(limit) else { throw ValidationError("--limit must be from 1 to 100") }
        }

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["queue", "dead"], query: [("limit", "\(limit)")])) {
                let answer = try $0.decoded(Answer.self)
                var table = TextTable(["job", "tenant", "model", "attempts", "error", "detail", "ended"])
                for row in answer.data {
                    table.add([
                        row.id, row.tenantId, row.model, "\(row.attempts)", row.errorCode, row.errorDetail, row.endedAt,
                    ])
                }
                return table.text
            }
        }
    }

    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Give a dead job five more attempts.")
        @Argument(help: "The job's id.") var id: String
        @OptionGroup var admin: AdminOptions

        struct Answer: Decodable {
            let id: String
            let status: String
        }

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["queue", "dead", id, "retry"])) {
                let answer = try $0.decoded(Answer.self)
                var table = TextTable(["job", "status"])
                table.add([answer.id, answer.status])
                return table.text
            }
        }
    }
}
