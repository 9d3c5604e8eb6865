import ArgumentParser

struct SubscriptionsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "subscriptions",
        abstract: "See and change which tier a tenant is on.",
        discussion: """
            Examples:
              weir subscriptions show --tenant 0195a3bf-…
              weir subscriptions set --tenant 0195a3bf-… --tier standard --when period_end
              weir subscriptions cancel --tenant 0195a3bf-…
            """,
        subcommands: [Show.self, Set.self, Cancel.self], defaultSubcommand: Show.self)

    private struct Answer: Decodable {
        struct Stay: Decodable {
            let tier: String
            let priceVersion: String
            let startsAt: String
            let endsAt: String?
            let trialEndsAt: String?
        }

        struct Change: Decodable {
            let tier: String
            let dueAt: String
        }

        let scheduled: Change?
        let history: [Stay]
    }

    private static func text(_ answer: AdminAnswer) throws -> String {
        let answer = try answer.decoded(Answer.self)
        var table = TextTable(["tier", "price_version", "from", "to", "trial_to"])
        for stay in answer.history {
            table.add([stay.tier, stay.priceVersion, stay.startsAt, stay.endsAt, stay.trialEndsAt])
        }
        return table.text + (answer.scheduled.map { "\n" + SafeText.line("then \($0.tier) from \($0.dueAt)") } ?? "")
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What a tenant is on, was on and will be on.")
        @Option(help: "The tenant's id.") var tenant: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(
                AdminRequest(.get, ["subscriptions"], query: [("tenant", tenant)]), show: SubscriptionsCommand.text)
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Change a tenant's tier, now or later.")
        @Option(help: "The tenant's id.") var tenant: String
        @Option(help: "The tier's code.") var tier: String
        @Option(help: "now, period_end, or a time such as 2026-03-01T00:00:00Z.") var when = "now"
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let tenant: String
            let tier: String
            let when: String
        }

        func run() async throws {
            try await admin.send(
                AdminRequest(.post, ["subscriptions"], body: Body(tenant: tenant, tier: tier, when: when)),
                show: SubscriptionsCommand.text)
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take back a change that is scheduled.")
        @Option(help: "The tenant's id.") var tenant: String
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let tenant: String
        }

        func run() async throws {
            try await admin.send(
                AdminRequest(.post, ["subscriptions", "cancel"], body: Body(tenant: tenant)),
                show: SubscriptionsCommand.text)
        }
    }
}
