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
            """,
        subcommands: [
            List.self, Create.self, Show.self, Version.self, Split.self, Set.self, Mirror.self, Aliases.self,
            Alias.self, Unalias.self, ModelDeliveryCommand.self,
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
