import ArgumentParser

struct StripeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stripe",
        abstract: "Say who is a customer at Stripe, and see what was sent there.",
        subcommands: [Customer.self, Deliveries.self, Retry.self])

    struct Customer: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show who a tenant is at Stripe, or say it with --customer or --disconnect.")
        @Argument(help: "The tenant's id.") var tenant: String
        @Option(help: ArgumentHelp("The customer's id at Stripe.", valueName: "id")) var customer: String?
        @Option(help: "From when on usage is sent; by default the running hour.") var since: String?
        @Flag(help: "Send no more of what is used after this quarter of an hour.") var disconnect = false
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let customerId: String?
            let since: String?

            func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                // Null is what disconnects, so it is sent.
                try container.encode(customerId, forKey: .customerId)
                try container.encodeIfPresent(since, forKey: .since)
            }

            enum CodingKeys: String, CodingKey { case customerId, since }
        }

        private struct Answer: Decodable {
            let tenantId: String
            let customerId: String?
            let since: String?
            let until: String?
        }

        func validate() throws {
            if customer != nil, disconnect { throw ValidationError("--customer and --disconnect are one or the other") }
        }

        func run() async throws {
            let path = ["tenants", tenant, "stripe"]
            let call =
                customer == nil && !disconnect
                ? try AdminRequest(.get, path)
                : try AdminRequest(.put, path, body: Body(customerId: customer, since: since))
            try await admin.send(call) {
                let answer = try $0.decoded(Answer.self)
                var table = TextTable(["tenant", "customer", "since", "until"])
                table.add([answer.tenantId, answer.customerId, answer.since, answer.until])
                return table.text
            }
        }
    }

    struct Deliveries: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List what is sent, by identifier.")
        @Option(help: "pending, delivered or failed.") var state: String?
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        private struct Item: Decodable, Sendable {
            let identifier: String
            let value: Int64
            let state: String
            let attempts: Int64
            let lastStatus: Int64?
            let lastError: String?
        }

        func run() async throws {
            try await admin.send(
                AdminRequest(.get, ["stripe", "deliveries"], query: page.query + [("state", state)])
            ) {
                let answer = try $0.decoded(AdminPage<Item>.self)
                page.mention(answer)
                var table = TextTable(["identifier", "value", "state", "attempts", "status", "error"])
                for item in answer.data {
                    table.add([
                        item.identifier, "\(item.value)", item.state, "\(item.attempts)",
                        item.lastStatus.map { "\($0)" }, item.lastError,
                    ])
                }
                return table.text
            }
        }
    }

    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Send a parked delivery anew.",
            discussion:
                "Ask Stripe first whether it has the event: after a day it takes the same identifier for a new one.")
        @Argument(help: "Its identifier.") var identifier: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(
                AdminRequest(.post, ["stripe", "deliveries", "retry"], body: ["identifier": identifier])
            ) { _ in "it waits to be sent" }
        }
    }
}
