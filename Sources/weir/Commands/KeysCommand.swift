import ArgumentParser

struct KeysCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys",
        abstract: "List, make and revoke API keys.",
        discussion: """
            Examples:
              weir keys create 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b --name production --scope predict --scope read
              weir keys revoke AbCdEfGhIjKl
            """,
        subcommands: [List.self, Create.self, Limit.self, Revoke.self])

    static func table(_ keys: [AdminKey]) -> String {
        var table = TextTable([
            "id", "name", "environment", "ends in", "scopes", "models", "expires", "revoked", "rate limits",
        ])
        for key in keys {
            table.add([
                key.publicId ?? key.id, key.name, key.environment, key.lastFour, key.scopes.joined(separator: ","),
                key.allowedModels?.joined(separator: ",") ?? "all", key.expiresAt ?? "never", key.revokedAt,
                (key.rateLimits ?? []).map(\.text).joined(separator: " "),
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List a tenant's keys, newest first.")
        @Argument(help: "The tenant's id.") var tenant: String
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["tenants", tenant, "keys"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminKey>.self)
                page.mention(list)
                return KeysCommand.table(list.data)
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a key. It is shown this once and cannot be shown again.")
        @Argument(help: "The tenant's id.") var tenant: String
        @Option(help: "A name by which people know it.") var name: String?
        @Option(help: "live or test; live where it is left out.") var environment: String?
        @Option(
            name: .customLong("scope"), parsing: .singleValue,
            help: "What it may do; may be given several times. predict, read and billing where it is left out.")
        var scopes: [String] = []
        @Option(
            name: .customLong("model"), parsing: .singleValue,
            help: "A model that it may call; may be given several times. All where it is left out.")
        var models: [String] = []
        @Option(
            help: ArgumentHelp(
                "When it expires, as in 2027-01-01T00:00:00Z; never where it is left out.", valueName: "time"))
        var expiresAt: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let name: String?
            let environment: String?
            let scopes: [String]
            let allowedModels: [String]?
            let expiresAt: String?
        }

        func run() async throws {
            let body = Body(
                name: name, environment: environment, scopes: scopes.isEmpty ? ["predict", "read", "billing"] : scopes,
                allowedModels: models.isEmpty ? nil : models, expiresAt: expiresAt)
            try await admin.send(AdminRequest(.post, ["tenants", tenant, "keys"], body: body)) { answer in
                let key = try answer.decoded(AdminKey.self)
                guard let text = key.key else {
                    throw CommandFailure("the answer holds no key; --json shows it as it came")
                }
                return KeysCommand.table([key])
                    + "\n\n\(SafeText.line(text))\n\nThis is the only time that the key is shown."
            }
        }
    }

    struct Limit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Replace a key's own rate limits.",
            discussion: "Without --rate-limit those of its subscription and tier count again.")
        @Argument(help: "The key's id: the twelve characters after its environment.") var key: String
        @OptionGroup var limits: RateLimitOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            // All limits of a key are its own, with or without the word.
            let own = try limits.parsed().map {
                AdminRateLimit(scope: nil, unit: $0.unit, amount: $0.amount, burst: $0.burst)
            }
            try await admin.send(AdminRequest(.patch, ["keys", key], body: ["rate_limits": own])) {
                KeysCommand.table([try $0.decoded(AdminKey.self)])
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Revoke a key. Within a second no gateway accepts it; that cannot be undone.")
        @Argument(help: "The key's id: the twelve characters after its environment.") var key: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.delete, ["keys", key])) {
                KeysCommand.table([try $0.decoded(AdminKey.self)])
            }
        }
    }
}
