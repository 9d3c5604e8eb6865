import ArgumentParser
import Domain

struct ModelsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "models",
        abstract: "List and register models, their versions and aliases, and divide their requests.",
        discussion: """
            Examples:
              weir models list
              weir models create churn --version 1.0.0 --features 12
              weir models version churn 1.1.0
              weir models split churn 1.0.0=9000 1.1.0=1000 --sticky-by key
              weir models set churn --default-version 1.1.0
              weir models mirror churn --version 1.1.0 --share 500
              weir models alias flowers churn
              weir models delivery churn attempts=2 balancing=least_latency total_ms=2000
              weir models usage iris --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z
            """,
        subcommands: [
            List.self, Create.self, Show.self, Version.self, Split.self, Set.self, Mirror.self, Aliases.self,
            Alias.self, Unalias.self, ModelDeliveryCommand.self, Usage.self,
        ])

    static func table(_ models: [AdminModel]) -> String {
        var table = TextTable([
            "name", "version", "features", "counting", "tokens per request", "most output tokens", "cache",
        ])
        for model in models {
            table.add([
                model.name, model.version, model.featureCount.map(String.init), model.tokenCounting,
                String(model.fixedTokensPerRequest), String(model.maximumOutputTokens), model.cache?.text,
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the models.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["models"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminModel>.self)
                page.mention(list)
                return ModelsCommand.table(list.data)
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register a model. It can be called as soon as it has a route.")
        @Argument(help: "The model's name: lower-case letters, digits, dots, hyphens and underscores.") var name: String
        @Option(help: "The version in force.") var version = "1"
        @Option(help: "Numbers in one row of input; the worker checks where it is left out.") var features: Int?
        @Option(help: "Tokens that a request counts where the worker reports none; 1 where it is left out.")
        var tokensPerRequest: Int64?
        @Option(help: "The most output tokens of one request, held before it begins; 64 where it is left out.")
        var maxOutputTokens: Int64?
        @Option(help: "How tokens are counted: worker, counted, fixed or payload; worker where it is left out.")
        var counting: String?
        @Option(help: "Bytes of a token where they are counted by payload; 4 where it is left out.")
        var bytesPerToken: Int64?
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            guard ModelName.isValid(name.utf8) else { throw ValidationError("\(name) is no name for a model") }
            guard features.map({ (1...4_096).contains($0) }) ?? true else {
                throw ValidationError("--features is from 1 to 4096")
            }
            guard counting.map({ TokenCounting(rawValue: $0) != nil }) ?? true else {
                throw ValidationError(
                    "--counting is one of \(TokenCounting.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            guard tokensPerRequest ?? 0 >= 0, maxOutputTokens ?? 0 >= 0 else {
                throw ValidationError("numbers of tokens are not negative")
            }
        }

        func run() async throws {
            let model = NewModel(
                name: name, version: version, featureCount: features, fixedTokensPerRequest: tokensPerRequest,
                maximumOutputTokens: maxOutputTokens, tokenCounting: counting, bytesPerToken: bytesPerToken)
            try await admin.send(AdminRequest(.post, ["models"], body: model)) {
                ModelsCommand.table([try $0.decoded(AdminModel.self)])
            }
        }
    }

    struct Usage: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what a model was used for, by quarters of an hour, and how many replicas it needs.",
            discussion:
                "Times are RFC 3339 with an offset, on quarters of an hour; the start counts, the end does not. Without them it is the last day."
        )
        @Argument(help: "The model's name.") var name: String
        @Option(help: "The first instant.") var from: String?
        @Option(help: "The first instant that no longer counts.") var to: String?
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            guard ModelName.isValid(name.utf8) else { throw ValidationError("\(name) is no name for a model") }
        }

        func run() async throws {
            let query = [("from", from), ("to", to)]
            try await admin.send(AdminRequest(.get, ["models", name, "usage"], query: query)) { answer in
                Self.text(try answer.decoded(AdminModelUsage.self))
            }
        }

        static func text(_ usage: AdminModelUsage) -> String {
            var table = TextTable(["start", "requests", "tokens", "errors", "cache hits", "busy ms", "queue"])
            for bucket in usage.data {
                table.add(
                    [bucket.start]
                        + [
                            bucket.requests, bucket.tokens, bucket.errors, bucket.cacheHits, bucket.busyMs,
                            bucket.queueDepth,
                        ].map(String.init))
            }
            return "\(SafeText.line(usage.model)) needs \(usage.desiredReplicas) replicas now\n\(table.text)"
        }
    }

    /// What is left out has the contract's default.
    struct NewModel: Encodable {
        let name: String
        let version: String
        let featureCount: Int?
        let fixedTokensPerRequest: Int64?
        let maximumOutputTokens: Int64?
        let tokenCounting: String?
        let bytesPerToken: Int64?
    }
}
