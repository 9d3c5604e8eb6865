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
    let approximate: Int
    let notSeen: [String]
    let reratedHits: Int64
    let beforeMicros: Int64
    let afterMicros: Int64
    let changeMicros: Int64
    let winners: Group
    let losers: Group
    let billShock: Group
    let confirms: Bool
    let digest: String?
}

/// A replay that was made before.
struct AdminPastReplay: Decodable, Sendable {
    let id: String
    let digest: String
    let confirms: Bool
    let createdAt: String
    let result: Sums?

    struct Sums: Decodable, Sendable {
        let bills: Int
        let beforeMicros: Int64
        let afterMicros: Int64
    }
}

/// What rating says of issued invoices.
struct AdminInvoiceReplay: Decodable, Sendable {
    struct Invoice: Decodable, Sendable {
        let id: String
        let number: String
        let tenantId: String
        let period: String
        let issuedMicros: Int64
        let replayedMicros: Int64?
    }

    let invoices: Int
    let equal: Int
    let differing: Int
    let differences: [Invoice]
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
    let options: [Option]

    struct Option: Decodable, Sendable {
        struct Quota: Decodable, Sendable {
            let unit: String
            let frequency: String
        }

        struct Rate: Decodable, Sendable {
            let scope: String
            let unit: String
        }

        let tier: String
        let version: Int
        let limitsProven: Bool
        let refusedBy: [Quota]
        let rateOverruns: [Rate]

        /// As `basic 1 (tokens of a day, requests a minute)`.
        var refusal: String? {
            let limits =
                refusedBy.map { "\($0.unit) of a \($0.frequency)" }
                + rateOverruns.map { $0.unit == "concurrency" ? "at once" : "\($0.unit) a minute" }
            return limits.isEmpty ? nil : "\(tier) \(version) (\(limits.joined(separator: ", ")))"
        }
    }

    /// Whether the recommended tier's limits are known to have held.
    var limits: String {
        let option = options.first { $0.tier == recommended?.tier && $0.version == recommended?.version }
        return option.map { $0.limitsProven ? "kept" : "not proven" } ?? ""
    }
}

extension TiersCommand {
    struct Replay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Rate past usage with a version, and show whose bills would rise and fall.",
            discussion: """
                The digest is what publishing a draft that moves prices far asks for, without --until and --tenant. --tenant shows one
                tenant's lines; use --json. --issued takes no tier: it rates every issued invoice anew from what it charges, and names those
                that say something else. Its exit code is 0 where none does, 1 where one does, 2 where it could not be found out.
                """)
        @Argument(help: "The tier's code.") var code: String?
        @Argument(help: "The version.") var version: Int32?
        @Flag(help: "Compare issued invoices with what rating says of what they charge.") var issued = false
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
            if issued {
                guard code == nil, periods == nil, until == nil, scope == nil, shockPercent == nil,
                    shockAmountMicros == nil
                else { throw ValidationError("--issued takes --tenant alone") }
                return
            }
            guard code != nil, version != nil else { throw ValidationError("name a tier and its version, or --issued") }
            if tenant != nil, !admin.json { throw ValidationError("--tenant needs --json: lines do not fit a table") }
        }

        func run() async throws {
            if issued { return try await runIssued() }
            guard let code, let version else { return }
            let body = Body(
                scope: scope, periods: periods, until: until, shockPercent: shockPercent,
                shockAmountMicros: shockAmountMicros, tenantId: tenant)
            let path = ["tiers", code, "versions", String(version), "replay"]
            try await admin.send(
                AdminRequest(.post, path, body: body), withinSeconds: AdminOptions.wholeInstallationSeconds
            ) {
                Self.text(try $0.decoded(AdminTierReplay.self))
            }
        }

        private func runIssued() async throws {
            let differing: Int
            do {
                let answer = try await admin.client().send(
                    AdminRequest(.get, ["tiers", "replay"], query: [("tenant", tenant)]),
                    withinSeconds: AdminOptions.wholeInstallationSeconds)
                let replay = try answer.decoded(AdminInvoiceReplay.self)
                differing = replay.differing
                Terminal.say(admin.json ? answer.text : Self.text(replay))
            } catch let failure as CommandFailure {
                Terminal.complain("weir: \(failure.message)")
                throw ExitCode(2)
            } catch let failure as ConfigurationFailure {
                Terminal.complain("weir: \(failure)")
                throw ExitCode(2)
            }
            if differing > 0 { throw ExitCode(1) }
        }

        static func text(_ replay: AdminInvoiceReplay) -> String {
            let sum = "\(replay.invoices) invoices, \(replay.equal) equal, \(replay.differing) differ"
            guard replay.differing > 0 else { return sum }
            var table = TextTable(["number", "invoice", "tenant", "period", "issued", "replayed"])
            for invoice in replay.differences {
                table.add([
                    invoice.number, invoice.id, invoice.tenantId, invoice.period, String(invoice.issuedMicros),
                    invoice.replayedMicros.map(String.init) ?? "cannot be rated",
                ])
            }
            return "\(sum)\n\(table.text)"
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
            let approximate =
                replay.approximate == 0
                ? ""
                : "\n\(replay.approximate) had another \(replay.notSeen.joined(separator: " and ")), and what it would have charged is not known"
            let rerated =
                replay.reratedHits == 0
                ? ""
                : "\n\(replay.reratedHits) hits of the cache were charged anew, each to within one token of each meter"
            return """
                \(replay.bills) bills, \(replay.skipped) that cannot be rated with it; micro-units of \(replay.currency)
                before \(replay.beforeMicros), after \(replay.afterMicros), change \(replay.changeMicros)
                \(replay.losers.count) rise, \(replay.winners.count) fall, \(replay.billShock.count) are a shock
                digest \(replay.digest ?? "none")\(replay.confirms ? "" : ", which confirms nothing: it is not of all bills up to now")\(approximate)\(rerated)
                \(table.text)
                """
        }
    }

    struct Replays: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List the replays that were made of a version as it is now, with their digests.")
        @Argument(help: "The tier's code.") var code: String
        @Argument(help: "The version.") var version: Int32
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let path = ["tiers", code, "versions", String(version), "replays"]
            try await admin.send(AdminRequest(.get, path, query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminPastReplay>.self)
                page.mention(list)
                var table = TextTable(["made", "bills", "before", "after", "confirms", "digest"])
                for one in list.data {
                    table.add([
                        one.createdAt, one.result.map { String($0.bills) }, one.result.map { String($0.beforeMicros) },
                        one.result.map { String($0.afterMicros) }, one.confirms ? "yes" : "no", one.digest,
                    ])
                }
                return table.text
            }
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
            try await admin.send(
                AdminRequest(.get, ["tiers", "analysis"], query: query),
                withinSeconds: AdminOptions.wholeInstallationSeconds
            ) { answer in
                let list = try answer.decoded(AdminPage<AdminTierAnalysis>.self)
                page.mention(list)
                var table = TextTable([
                    "tenant", "current", "recommended", "saving", "currency", "highest tokens", "simple rule",
                    "limits", "refused",
                ])
                for one in list.data {
                    table.add([
                        one.tenantId, one.current?.text ?? "", one.recommended?.text ?? "",
                        one.savingMicros.map(String.init) ?? "", one.currency ?? "",
                        String(one.highestMonthlyTokens), one.simpleRule, one.limits,
                        one.options.compactMap(\.refusal).joined(separator: ", "),
                    ])
                }
                return table.text
            }
        }
    }
}
