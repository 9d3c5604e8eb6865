import ArgumentParser

struct CreditsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "credits",
        abstract: "Grant and revoke credits, which invoices draw on.",
        discussion: """
            Examples:
              weir credits list --tenant 0195a3bf-…
              weir credits grant --tenant 0195a3bf-… --currency USD --amount-micros 5000000 --reason "Welcome"
              weir credits revoke crd_0195a3bf-…
            """,
        subcommands: [List.self, Grant.self, Revoke.self, Prepaid.self], defaultSubcommand: List.self)

    struct Row: Decodable {
        let id: String
        let kind: String
        let currency: String
        let amountMicros: Int64
        let remainingMicros: Int64
        let priority: Int
        let effectiveAt: String
        let expiresAt: String?
        let revokedAt: String?
        let reason: String
    }

    private static func table(_ rows: [Row]) -> String {
        var table = TextTable([
            "credit", "kind", "currency", "amount_micros", "remaining_micros", "priority", "from", "to", "revoked",
            "reason",
        ])
        for row in rows {
            table.add([
                row.id, row.kind, row.currency, "\(row.amountMicros)", "\(row.remainingMicros)", "\(row.priority)",
                row.effectiveAt, row.expiresAt, row.revokedAt, row.reason,
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "A tenant's credits with what is left of them.")
        @Option(help: "The tenant's id.") var tenant: String
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["credits"], query: page.query + [("tenant", tenant)])) {
                let answer = try $0.decoded(AdminPage<Row>.self)
                page.mention(answer)
                return CreditsCommand.table(answer.data)
            }
        }
    }

    struct Grant: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Grant a credit.")
        @Option(help: "The tenant's id.") var tenant: String
        @Option(help: "promotional, prepaid or refund.") var kind = "promotional"
        @Option(help: "As USD.") var currency: String
        @Option(help: "How much, in micro-units.") var amountMicros: Int64
        @Option(help: "0 to 1000; the smaller one pays first.") var priority = 100
        @Option(help: "From when, on a quarter of an hour; by default now.") var effectiveAt: String?
        @Option(help: "Until when, on a quarter of an hour; by default for ever.") var expiresAt: String?
        @Option(help: "Why; the customer reads it.") var reason: String
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let tenant: String
            let kind: String
            let currency: String
            let amountMicros: Int64
            let priority: Int
            let effectiveAt: String?
            let expiresAt: String?
            let reason: String
        }

        func run() async throws {
            let body = Body(
                tenant: tenant, kind: kind, currency: currency, amountMicros: amountMicros, priority: priority,
                effectiveAt: effectiveAt, expiresAt: expiresAt, reason: reason)
            try await admin.send(AdminRequest(.post, ["credits"], body: body)) {
                CreditsCommand.table([try $0.decoded(Row.self)])
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "End a credit; what is left of it is gone.")
        @Argument(help: "The credit's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["credits", id, "revoke"])) {
                CreditsCommand.table([try $0.decoded(Row.self)])
            }
        }
    }

    struct Prepaid: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say whether a tenant pays ahead: then it is served while its balance is above zero.")
        @Option(help: "The tenant's id.") var tenant: String
        @Flag(inversion: .prefixedNo, help: "Whether it does.") var on = true
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let prepaid: Bool
        }

        private struct Answer: Decodable {
            let prepaid: Bool
            let exhausted: Bool
        }

        func run() async throws {
            try await admin.send(AdminRequest(.put, ["tenants", tenant, "prepaid"], body: Body(prepaid: on))) {
                let answer = try $0.decoded(Answer.self)
                return "prepaid \(answer.prepaid), exhausted \(answer.exhausted)"
            }
        }
    }
}
