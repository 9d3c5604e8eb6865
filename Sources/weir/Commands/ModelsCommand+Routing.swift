import ArgumentParser
import Domain

extension ModelsCommand {
    static func routing(_ routing: AdminModelRouting) -> String {
        var table = TextTable(["version", "state", "weight", "features", "counting"])
        for version in routing.versions {
            table.add([
                version.version, version.state, version.weight.map(String.init),
                version.featureCount.map(String.init), version.tokenCounting,
            ])
        }
        var lines = [
            "default \(routing.defaultVersion ?? "by weight, else the latest")", "sticky by \(routing.stickyBy)",
        ]
        if let mirror = routing.mirror {
            lines.append(
                "mirror \(mirror.model ?? routing.model) \(mirror.version ?? "in service"), "
                    + "\(mirror.share) of \(MirrorRule.shareLimit)")
        }
        lines += routing.aliases.map { "alias \($0.alias) \($0.version ?? "")" }
        return table.text + "\n" + lines.map(SafeText.line).joined(separator: "\n")
    }

    private static func show(_ answer: AdminAnswer) throws -> String {
        routing(try answer.decoded(AdminModelRouting.self))
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a model's versions, how requests find them, and its aliases.")
        @Argument(help: "The model's name.") var model: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["models", model, "routing"]), show: ModelsCommand.show)
        }
    }

    struct Version: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register a version, or retire it. What is left out is the model's.")
        @Argument(help: "The model's name.") var model: String
        @Argument(help: "The version, best a semantic one as 1.2.0.") var version: String
        @Flag(help: "Retire it: it is not called any more.") var retire = false
        @Option(help: "Numbers in one row of input.") var features: Int?
        @Option(help: "Tokens that a request counts where the worker reports none.") var tokensPerRequest: Int64?
        @Option(help: "The most output tokens of one request.") var maxOutputTokens: Int64?
        @Option(help: "How tokens are counted: worker, counted, fixed or payload.") var counting: String?
        @Option(help: "Bytes of a token where they are counted by payload.") var bytesPerToken: Int64?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let state: String
            let featureCount: Int?
            let fixedTokensPerRequest: Int64?
            let maximumOutputTokens: Int64?
            let tokenCounting: String?
            let bytesPerToken: Int64?
        }

        func validate() throws {
            guard ModelVersionName.isValid(version.utf8), version != ModelVersionName.latest else {
                throw ValidationError("\(version) is no name for a version")
            }
        }

        func run() async throws {
            let body = Body(
                state: retire ? "retired" : "active", featureCount: features, fixedTokensPerRequest: tokensPerRequest,
                maximumOutputTokens: maxOutputTokens, tokenCounting: counting, bytesPerToken: bytesPerToken)
            try await admin.send(
                AdminRequest(.put, ["models", model, "versions", version], body: body), show: ModelsCommand.show)
        }
    }

    struct Split: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Divide the requests that name no version; without versions, end that.")
        @Argument(help: "The model's name.") var model: String
        @Argument(help: ArgumentHelp("Weights from 0 to 10000.", valueName: "version=weight")) var weights: [String] =
            []
        @Option(help: "By what callers stay with a version: none, tenant, key, user or a field such as session_id.")
        var stickyBy: String?
        @OptionGroup var admin: AdminOptions

        struct Share: Encodable, Equatable {
            let version: String
            let weight: Int
        }

        struct Body: Encodable {
            let split: [Share]
            let stickyBy: String?
        }

        func validate() throws {
            _ = try body()
        }

        func body() throws -> Body {
            if let stickyBy, Stickiness(stickyBy) == nil { throw ValidationError("--sticky-by: \(stickyBy) is none") }
            return Body(split: try weights.map(Self.share), stickyBy: stickyBy)
        }

        static func share(_ text: String) throws -> Share {
            guard let equals = text.lastIndex(of: "="), let weight = Int(text[text.index(after: equals)...]),
                (0...TrafficSplit.weightLimit).contains(weight), ModelVersionName.isValid(text[..<equals].utf8)
            else { throw ValidationError("\(text): expected version=weight, the weight from 0 to 10000") }
            return Share(version: String(text[..<equals]), weight: weight)
        }

        func run() async throws {
            try await admin.send(
                AdminRequest(.patch, ["models", model, "routing"], body: try body()), show: ModelsCommand.show)
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Pin the version of requests that name none, or say by what callers stay with one.")
        @Argument(help: "The model's name.") var model: String
        @Option(help: "The version.") var defaultVersion: String?
        @Flag(help: "End the pinning.") var unpin = false
        @Option(help: "none, tenant, key, user or a field such as session_id.") var stickyBy: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let defaultVersion: String?
            let unpins: Bool
            let stickyBy: String?

            private enum CodingKeys: String, CodingKey { case defaultVersion, stickyBy }

            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                if unpins { try container.encodeNil(forKey: .defaultVersion) }
                try container.encodeIfPresent(defaultVersion, forKey: .defaultVersion)
                try container.encodeIfPresent(stickyBy, forKey: .stickyBy)
            }
        }

        func validate() throws {
            guard !unpin || defaultVersion == nil else {
                throw ValidationError("--unpin and --default-version cannot be given together")
            }
            guard unpin || defaultVersion != nil || stickyBy != nil else {
                throw ValidationError("give --default-version, --unpin or --sticky-by")
            }
        }

        func run() async throws {
            let body = Body(defaultVersion: defaultVersion, unpins: unpin, stickyBy: stickyBy)
            try await admin.send(
                AdminRequest(.patch, ["models", model, "routing"], body: body), show: ModelsCommand.show)
        }
    }

    struct Mirror: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Send copies of a model's requests to another version or model; they are not billed.")
        @Argument(help: "The model's name.") var model: String
        @Option(name: .customLong("to"), help: "Another model.") var target: String?
        @Option(help: "The version.") var version: String?
        @Option(help: "Of ten thousand requests, how many are copied.") var share = 10_000
        @Flag(help: "End it.") var off = false
        @OptionGroup var admin: AdminOptions

        struct Rule: Encodable {
            let model: String?
            let version: String?
            let share: Int
        }

        struct Body: Encodable {
            let mirror: Rule?

            private enum CodingKeys: String, CodingKey { case mirror }

            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(mirror, forKey: .mirror)
            }
        }

        func validate() throws {
            guard off != (target != nil || version != nil) else {
                throw ValidationError("give --to or --version, or --off")
            }
            guard (1...MirrorRule.shareLimit).contains(share) else {
                throw ValidationError("--share is from 1 to 10000")
            }
        }

        func run() async throws {
            let rule = off ? nil : Rule(model: target, version: version, share: share)
            try await admin.send(
                AdminRequest(.patch, ["models", model, "routing"], body: Body(mirror: rule)), show: ModelsCommand.show)
        }
    }

    static func aliasTable(_ aliases: [AdminAlias]) -> String {
        var table = TextTable(["alias", "model", "version"])
        for alias in aliases { table.add([alias.alias, alias.model, alias.version]) }
        return table.text
    }

    struct Aliases: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List second names of models.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["aliases"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminAlias>.self)
                page.mention(list)
                return ModelsCommand.aliasTable(list.data)
            }
        }
    }

    struct Alias: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Give a model a second name.")
        @Argument(help: "The second name.") var alias: String
        @Argument(help: "The model.") var model: String
        @Option(help: "The one version that the name leads to.") var version: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let model: String
            let version: String?
        }

        func run() async throws {
            let body = Body(model: model, version: version)
            try await admin.send(AdminRequest(.put, ["aliases", alias], body: body)) {
                ModelsCommand.aliasTable([try $0.decoded(AdminAlias.self)])
            }
        }
    }

    struct Unalias: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a second name away.")
        @Argument(help: "The second name.") var alias: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.delete, ["aliases", alias])) { _ in "The alias \(alias) is gone." }
        }
    }
}
