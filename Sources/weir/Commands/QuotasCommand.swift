import ArgumentParser

struct QuotasCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quotas",
        abstract:
            "List, set, raise and delete the quotas of a tenant, its users and its keys, and list the thresholds they crossed.",
        discussion: """
            Every gateway follows a change within a second.

            Examples:
              weir quotas set 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b tokens/month=5000000
              weir quotas set 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b requests/day=1000 --key 0195a3c0-1111-7a52-bb10-6d7e8f901a2b
              weir quotas set 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b tokens/month=5000000:pay_as_you_go:calendar:80,100,200
              weir quotas events --tenant 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b
              weir quotas raise 0195a3c1-2222-7a52-bb10-6d7e8f901a2b 1000000 --periods 2
            """,
        subcommands: [List.self, Set.self, Raise.self, Delete.self, Events.self])

    static func table(_ quotas: [AdminQuotaRow]) -> String {
        var table = TextTable([
            "id", "level", "of", "unit", "frequency", "amount", "raised", "mode", "alignment", "thresholds", "origin",
        ])
        for quota in quotas {
            table.add([
                quota.id, quota.level, quota.userId ?? quota.keyId ?? quota.tenantId, quota.unit, quota.frequency,
                String(quota.amount), quota.raised == 0 ? "" : "+\(quota.raised)", quota.mode, quota.alignment,
                (quota.thresholdsPercent ?? []).map(String.init).joined(separator: ","),
                quota.origin,
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List a tenant's quotas, newest first.")
        @Argument(help: "The tenant's id.") var tenant: String
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["tenants", tenant, "quotas"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminQuotaRow>.self)
                page.mention(list)
                return QuotasCommand.table(list.data)
            }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set a quota, in the place of the tier's or of one that was set before.")
        @Argument(help: "The tenant's id.") var tenant: String
        @Argument(help: ArgumentHelp("The quota.", valueName: "unit/frequency=amount[:mode[:alignment[:percents]]]"))
        var quota: String
        @Option(help: ArgumentHelp("The user whose quota it is.", valueName: "id")) var user: String?
        @Option(help: ArgumentHelp("The key whose quota it is.", valueName: "id")) var key: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let userId: String?
            let keyId: String?
            let unit: String
            let frequency: String
            let amount: Int64
            let mode: String
            let alignment: String?
            let thresholdsPercent: [Int16]?
        }

        func validate() throws {
            if user != nil, key != nil { throw ValidationError("--user and --key cannot be given together") }
            _ = try body()
        }

        /// What is sent.
        func body() throws -> Body {
            let rule = try TierWords.quota(quota)
            return Body(
                userId: user, keyId: key, unit: rule.unit, frequency: rule.frequency, amount: rule.amount,
                mode: rule.mode, alignment: rule.alignment, thresholdsPercent: rule.thresholdsPercent)
        }

        func run() async throws {
            try await admin.send(AdminRequest(.put, ["tenants", tenant, "quotas"], body: try body())) {
                QuotasCommand.table([try $0.decoded(AdminQuotaRow.self)])
            }
        }
    }

    struct Raise: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Allow more in the running period and those that follow it.")
        @Argument(help: "The quota's id.") var id: String
        @Argument(help: "How much more.") var amount: Int64
        @Option(help: "How many periods, the running one included.") var periods = 1
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            guard amount > 0, (1...1_000).contains(periods) else {
                throw ValidationError("the amount is at least 1, --periods is from 1 to 1000")
            }
        }

        func run() async throws {
            let call = try AdminRequest(
                .post, ["quotas", id, "raise"], body: ["amount": amount, "periods": Int64(periods)])
            try await admin.send(call) { QuotasCommand.table([try $0.decoded(AdminQuotaRow.self)]) }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take away what was set; the tier's quota is in force again where it has one.")
        @Argument(help: "The quota's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.delete, ["quotas", id])) { _ in "The quota \(id) is no longer set." }
        }
    }

    struct Events: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the thresholds that use has crossed, newest first.")
        @Option(help: ArgumentHelp("Of this tenant alone.", valueName: "id")) var tenant: String?
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let query = page.query + [("tenant", tenant)]
            try await admin.send(AdminRequest(.get, ["quotas", "events"], query: query)) { answer in
                let list = try answer.decoded(AdminPage<AdminQuotaEvent>.self)
                page.mention(list)
                var table = TextTable([
                    "crossed at", "tenant", "policy", "mode", "threshold", "used", "limit", "period",
                ])
                for event in list.data {
                    table.add([
                        event.crossedAt ?? "", event.tenantId, event.policy, event.mode, "\(event.thresholdPercent)%",
                        String(event.used), String(event.limit), event.periodStart,
                    ])
                }
                return table.text
            }
        }
    }
}
