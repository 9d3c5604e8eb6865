import ArgumentParser
import Domain

struct CacheCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "Say what is cached, see what the cache did, make it forget.",
        discussion: """
            Every gateway follows within a second.

            Examples:
              weir cache set iris --ttl 60
              weir cache set iris --off
              weir cache stats --model iris
              weir cache clear --tenant 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b --pattern 'user123_*'
              weir cache clear --model iris
            """,
        subcommands: [Set.self, Stats.self, Clear.self])

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Turn a model's cache on or off, and say how it works. What is left out has its default.")
        @Argument(help: "The model's name.") var model: String
        @Flag(help: "No answer of the model is cached.") var off = false
        @Option(help: "Seconds that an answer is kept; the server's setting where it is left out.") var ttl: Int64?
        @Option(help: "The most seconds that a request may ask for.") var maximumTtl: Int64?
        @Option(help: "Which requests are the same: tensors or canonical_json.") var sameness: String?
        @Option(help: ArgumentHelp("Where answers are kept, as in memory,redis,table.", valueName: "levels"))
        var levels: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let enabled: Bool
            let ttlSeconds: Int64?
            let maximumTtlSeconds: Int64?
            let sameness: String?
            let levels: [String]?
        }

        func validate() throws {
            guard ModelName.isValid(model.utf8) else { throw ValidationError("\(model) is no name for a model") }
        }

        func run() async throws {
            let body = Body(
                enabled: !off, ttlSeconds: ttl, maximumTtlSeconds: maximumTtl, sameness: sameness,
                levels: levels.map { $0.split(separator: ",").map(String.init) })
            try await admin.send(AdminRequest(.put, ["models", model, "cache"], body: body)) {
                ModelsCommand.table([try $0.decoded(AdminModel.self)])
            }
        }
    }

    struct Stats: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What the cache did, by tenant and model.")
        @Option(help: ArgumentHelp("Only this tenant.", valueName: "id")) var tenant: String?
        @Option(help: ArgumentHelp("Only this model.", valueName: "name")) var model: String?
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let query: [(String, String?)] = [("tenant_id", tenant), ("model", model)]
            try await admin.send(AdminRequest(.get, ["cache", "stats"], query: query)) { answer in
                var table = TextTable([
                    "tenant", "model", "hits", "collapsed", "misses", "stores", "stored bytes", "evictions", "in table",
                ])
                for row in try answer.decoded(AdminCacheStatistics.self).data {
                    table.add(
                        [row.tenantId, row.model]
                            + [
                                row.hits, row.collapsed, row.misses, row.stores, row.storedBytes, row.evictions,
                                row.tableEntries,
                            ].map { String($0) })
                }
                return table.text
            }
        }
    }

    struct Clear: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make every gateway forget.",
            discussion: "What is named together is meant together; a key or a pattern is always of one tenant.")
        @Option(help: ArgumentHelp("Only entries of this tenant.", valueName: "id")) var tenant: String?
        @Option(help: ArgumentHelp("Only entries of this model.", valueName: "name")) var model: String?
        @Option(help: ArgumentHelp("Only entries of this x-weir-cache-key.", valueName: "name")) var key: String?
        @Option(help: ArgumentHelp("Only entries whose x-weir-cache-key fits.", valueName: "pattern"))
        var pattern: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let tenantId: String?
            let model: String?
            let key: String?
            let pattern: String?
        }

        func validate() throws {
            guard tenant != nil || model != nil else { throw ValidationError("--tenant or --model is needed") }
            guard tenant != nil || (key == nil && pattern == nil) else {
                throw ValidationError("--key and --pattern need --tenant")
            }
            guard key == nil || pattern == nil else { throw ValidationError("--key and --pattern exclude each other") }
        }

        func run() async throws {
            let body = Body(tenantId: tenant, model: model, key: key, pattern: pattern)
            try await admin.send(AdminRequest(.post, ["cache", "clear"], body: body)) {
                "cleared (\(try $0.decoded(AdminCacheClearing.self).clearing))"
            }
        }
    }
}
