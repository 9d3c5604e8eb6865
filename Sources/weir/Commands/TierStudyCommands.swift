import ArgumentParser

/// What a replay found.
struct AdminTierReplay: Decodable, Sendable {
    struct Bill: Decodable, Sendable {
        let tenantId: String
        let name: String
        let period: String
        let beforeMicros: Int64
        let afterMicros: Int64
        let changeMicros: Int64
    }

    struct Group: Decodable, Sendable {
        let count: Int
        let bills: [Bill]
    }

    let currency: String
    let bills: Int
    let skipped: Int
    let beforeMicros: Int64
    let afterMicros: Int64
    let changeMicros: Int64
    let winners: Group
    let losers: Group
    let billShock: Group
    let digest: String?
}

/// What tiers would have cost a tenant.
struct AdminTierAnalysis: Decodable, Sendable {
    struct Choice: Decodable, Sendable {
        let tier: String
        let version: Int

        var text: String { "\(tier) \(version)" }
    }

    let tenantId: String
    let currency: String?
    let current: Choice?
    let recommended: Choice?
    let savingMicros: Int64?
    let highestMonthlyTokens: Int64
    let simpleRule: String
    let actualTotalMicros: Int64
}

extension TiersCommand {
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Rate past usage with a version, and show whose bills would rise and fall.",
            discussion:
                "The digest is what publishing a draft that moves prices far asks for. --tenant shows one tenant's lines; use --json."
        )
        @Argument(help: "The tier's code.") var code: String
        @Argument(help: "The version.") var version: Int32
        @Option(help: "Months, 1 to 24; the last one that is over, where it is left out.") var periods: Int?
        @Option(help: ArgumentHelp("The last month.", valueName: "2026-03")) var until: String?
        @Option(help: "tier, for what was used on this tier, or all.") var scope: String?
        @Option(help: "A bill that rises by more percent, and by more than the amount, is a shock.")
        var shockPercent: Int64?
        @Option(help: "In millionths of the currency's unit.") var shockAmountMicros: Int64?
        @Option(help: ArgumentHelp("Only this tenant, line by line.", valueName: "id")) var tenant: String?
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            let scope: String?
            let periods: Int?
            let until: String?
            let shockPercent: Int64?
            let shockAmountMicros: Int64?
            let tenantId: String?
        }

        func validate() throws {
            if tenant != nil, !admin.json { throw ValidationError("--tenant needs --json: lines do not fit a table") }
        }

        func run() async throws {
            let body = Body(
                scope: scope, periods: periods, until: until, shockPercent: shockPercent,
                shockAmountMicros: shockAmountMicros, tenantId: tenant)
            let path = ["tiers", code, "versions", String(version), "replay"]
            try await admin.send(AdminRequest(.post, path, body: body)) {
                Self.text(try $0.decoded(AdminTierReplay.self))
            }
        }

        static func text(_ replay: AdminTierReplay) -> String {
            var table = TextTable(["list", "tenant", "name", "period", "before", "after", "change"])
            for (list, group) in [("shock", replay.billShock), ("rises", replay.losers), ("falls", replay.winners)] {
                for bill in group.bills {
                    table.add([
                        list, bill.tenantId, bill.name, bill.period, String(bill.beforeMicros),
                        String(bill.afterMicros), String(bill.changeMicros),
                    ])
                }
            }
            return """
                \(replay.bills) bills, \(replay.skipped) that cannot be rated with it; micro-units of \(replay.currency)
                before \(replay.beforeMicros), after \(replay.afterMicros), change \(replay.changeMicros)
                \(replay.losers.count) rise, \(replay.winners.count) fall, \(replay.billShock.count) are a shock
                digest \(replay.digest ?? "none")
                \(table.text)
                """
        }
    }

    struct Analyse: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "analyse", abstract: "Show which tier would have been the cheapest for each tenant.",
            discussion: "Of the months that are over. --json shows what each tier would have cost.")
        @Option(help: "Months, 1 to 24; 3 where it is left out.") var periods: Int?
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let query = page.query + [("periods", periods.map(String.init))]
            try await admin.send(AdminRequest(.get, ["tiers", "analysis"], query: query)) { answer in
                let list = try answer.decoded(AdminPage<AdminTierAnalysis>.self)
                page.mention(list)
                var table = TextTable([
                    "tenant", "current", "recommended", "saving", "currency", "highest tokens", "simple rule",
                ])
                for one in list.data {
                    table.add([
                        one.tenantId, one.current?.text ?? "", one.recommended?.text ?? "",
                        one.savingMicros.map(String.init) ?? "", one.currency ?? "",
                        String(one.highestMonthlyTokens), one.simpleRule,
                    ])
                }
                return table.text
            }
        }
    }
}
