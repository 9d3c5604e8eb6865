import ArgumentParser

struct TenantsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tenants",
        abstract: "List and change tenants: who pays.",
        discussion: """
            Examples:
              weir tenants create "Example Ltd" --tier standard --time-zone Europe/Berlin
              weir tenants suspend 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b
            """,
        subcommands: [List.self, Create.self, Show.self, Set.self, Suspend.self, Resume.self, Limit.self, Retain.self])

    static func table(_ tenants: [AdminTenant]) -> String {
        var table = TextTable(["id", "name", "tier", "state", "time zone", "rate limits", "created"])
        for tenant in tenants {
            table.add([
                tenant.id, tenant.name, tenant.tier, tenant.state, tenant.timeZone,
                (tenant.rateLimits ?? []).map(\.text).joined(separator: " "), tenant.createdAt,
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List tenants, newest first.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["tenants"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminTenant>.self)
                page.mention(list)
                return TenantsCommand.table(list.data)
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a tenant. It has no key yet: see `weir keys create`.")
        @Argument(help: "The tenant's name.") var name: String
        @Option(help: "The code of its tier.") var tier: String
        @Option(help: "The time zone that cuts its days and months, as in Europe/Berlin; UTC where it is left out.")
        var timeZone: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let name: String
            let tier: String
            let timeZone: String?
        }

        func run() async throws {
            let call = try AdminRequest(.post, ["tenants"], body: Body(name: name, tier: tier, timeZone: timeZone))
            try await admin.send(call) { TenantsCommand.table([try $0.decoded(AdminTenant.self)]) }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show one tenant.")
        @Argument(help: "The tenant's id.") var tenant: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["tenants", tenant])) {
                TenantsCommand.table([try $0.decoded(AdminTenant.self)])
            }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Change a tenant's settings.",
            discussion: "Every gateway follows within a second.")
        @Argument(help: "The tenant's id.") var tenant: String
        @Option(help: "Which receipt its answers carry where a request says nothing: none, short or full.")
        var receipts: String
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            guard ["none", "short", "full"].contains(receipts) else {
                throw ValidationError("--receipts is none, short or full")
            }
        }

        func run() async throws {
            try await admin.send(AdminRequest(.patch, ["tenants", tenant], body: ["receipts": receipts])) {
                TenantsCommand.table([try $0.decoded(AdminTenant.self)])
            }
        }
    }

    struct Suspend: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Refuse a tenant's requests, within a second on every gateway. Requests in flight are finished and charged."
        )
        @Argument(help: "The tenant's id.") var tenant: String
        @OptionGroup var admin: AdminOptions

        func run() async throws { try await TenantsCommand.change(tenant, to: "suspended", admin) }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Accept a suspended tenant's requests again.")
        @Argument(help: "The tenant's id.") var tenant: String
        @OptionGroup var admin: AdminOptions

        func run() async throws { try await TenantsCommand.change(tenant, to: "active", admin) }
    }

    struct Limit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Replace what a tenant's subscription says otherwise than its tier's rate limits.",
            discussion: "Without --rate-limit the tier's limits count again. A change of tier ends what is said here.")
        @Argument(help: "The tenant's id.") var tenant: String
        @OptionGroup var limits: RateLimitOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let body = ["rate_limits": try limits.parsed()]
            try await admin.send(AdminRequest(.patch, ["tenants", tenant], body: body)) {
                TenantsCommand.table([try $0.decoded(AdminTenant.self)])
            }
        }
    }

    struct Retain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "retention",
            abstract: "Show or change what is kept of a tenant's prompts and results.",
            discussion: """
                A change counts within a second on every gateway. Where less is to be kept than before, what is kept already is erased
                in the background; the last column says whether that is still going on.

                Example:
                  weir tenants retention 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b --policy hashed
                """)
        @Argument(help: "The tenant's id.") var tenant: String
        @Option(help: "full keeps the contents, hashed their digests, none nothing.") var policy: String?
        @Option(help: "How long results are kept; 0 leaves it to the tier.") var resultTTLSeconds: Int64?
        @Option(help: "What is larger is kept as its digest.") var maxBytes: Int64?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let retention: String?
            let resultTtlSeconds: Int64?
            let retentionMaxBytes: Int64?
        }

        func run() async throws {
            let isChange = policy != nil || resultTTLSeconds != nil || maxBytes != nil
            let call =
                try isChange
                ? AdminRequest(
                    .patch, ["tenants", tenant],
                    body: Body(retention: policy, resultTtlSeconds: resultTTLSeconds, retentionMaxBytes: maxBytes))
                : AdminRequest(.get, ["tenants", tenant])
            try await admin.send(call) { answer in
                let tenant = try answer.decoded(AdminTenant.self)
                var table = TextTable(["id", "name", "retention", "result ttl seconds", "max bytes", "erasing"])
                table.add([
                    tenant.id, tenant.name, tenant.retention, tenant.resultTtlSeconds.map { "\($0)" } ?? "tier's",
                    tenant.retentionMaxBytes.map { "\($0)" }, tenant.erasing.map { $0 ? "yes" : "no" },
                ])
                return table.text
            }
        }
    }

    private static func change(_ tenant: String, to state: String, _ admin: AdminOptions) async throws {
        try await admin.send(AdminRequest(.patch, ["tenants", tenant], body: ["state": state])) {
            table([try $0.decoded(AdminTenant.self)])
        }
    }
}
