import ArgumentParser
import Domain

struct TiersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tiers",
        abstract: "List, make, replay and publish tiers: prices and quotas in versions that never change.",
        discussion: """
            Examples:
              weir tiers list
              weir tiers create standard --name Standard --price request=0.00001 --price input_token:iris=0.00000015 \\
                --quota requests/minute=600 --quota tokens/month=1000000:soft
              weir tiers draft standard --file prices.json
              weir tiers replay standard 2 --periods 3
              weir tiers publish standard 2
              weir tiers replay --issued
            """,
        subcommands: [
            List.self, Show.self, Create.self, Draft.self, Publish.self, Retire.self, Replay.self, Replays.self,
            Analyse.self,
        ])

    static func table(_ tiers: [AdminTier]) -> String {
        var table = TextTable(["code", "name", "version", "currency", "prices", "quotas", "rate limits"])
        for tier in tiers {
            table.add([
                tier.code, tier.name, String(tier.version.number), tier.version.currency,
                tier.version.prices.map(\.text).joined(separator: " "),
                tier.version.quotas.map(\.text).joined(separator: " "),
                (tier.version.rateLimits ?? []).map(\.text).joined(separator: " "),
            ])
        }
        return table.text
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the tiers with their versions in force.")
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["tiers"], query: page.query)) { answer in
                let list = try answer.decoded(AdminPage<AdminTier>.self)
                page.mention(list)
                return TiersCommand.table(list.data)
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a tier with its first version.",
            discussion: "A version never changes: what was charged stays explained. What has no price is free.")
        @Argument(help: "The tier's code, as in standard.") var code: String
        @Option(help: "Its name for people; the code where it is left out.") var name: String?
        @Option(help: "ISO 4217.") var currency = "USD"
        @Option(help: "What an answer from the cache is charged of its tokens, in percent; 100 where it is left out.")
        var cacheHitTokenPercent: Int64?
        @Option(help: "Whether a hit of the cache counts as a request: charged or free; charged where it is left out.")
        var cacheHitRequest: String?
        @Option(
            help:
                "What a request costs whose input the model refuses: charged, which is one request, or free; free where it is left out."
        )
        var failedRequest: String?
        @Option(help: "How long results are kept, in seconds; a day where it is left out.")
        var resultTTLSeconds: Int64?
        @Option(
            help:
                "What is charged where the caller of a stream leaves: cancel or drain; the model says it where it is left out."
        )
        var streamLeave: String?
        @Option(
            name: .customLong("price"), parsing: .singleValue,
            help: ArgumentHelp(
                "Currency units per unit of a meter (request, input_token, cached_input_token, output_token), of one model or of all.",
                valueName: "meter[:model]=price"))
        var prices: [String] = []
        @Option(
            name: .customLong("quota"), parsing: .singleValue,
            help: ArgumentHelp(
                "A limit, as in requests/minute=600, tokens/month=1000000:soft or tokens/month=1000000:pay_as_you_go:calendar:80,100,200.",
                valueName: "unit/frequency=amount[:mode[:alignment[:percents]]]"))
        var quotas: [String] = []
        @OptionGroup var limits: RateLimitOptions
        @OptionGroup var admin: AdminOptions

        struct Body: Encodable {
            struct Version: Encodable {
                let currency: String
                let cacheHitTokenPercent: Int64?
                let cacheHitRequest: String?
                let failedRequest: String?
                let resultTtlSeconds: Int64?
                let streamLeave: String?
                let prices: [AdminPrice]
                let quotas: [AdminQuota]
                let rateLimits: [AdminRateLimit]
            }

            let code: String
            let name: String
            let version: Version
        }

        func validate() throws {
            guard (0...100).contains(cacheHitTokenPercent ?? 100) else {
                throw ValidationError("--cache-hit-token-percent is from 0 to 100")
            }
            for (name, word) in [("cache-hit-request", cacheHitRequest), ("failed-request", failedRequest)] {
                guard word.map({ RequestCharge(rawValue: $0) != nil }) ?? true else {
                    throw ValidationError("--\(name) is charged or free")
                }
            }
            guard streamLeave.map({ StreamLeave(rawValue: $0) != nil }) ?? true else {
                throw ValidationError("--stream-leave is cancel or drain")
            }
            _ = try body()
        }

        /// What is sent.
        func body() throws -> Body {
            Body(
                code: code, name: name ?? code,
                version: Body.Version(
                    currency: currency, cacheHitTokenPercent: cacheHitTokenPercent,
                    cacheHitRequest: cacheHitRequest, failedRequest: failedRequest,
                    resultTtlSeconds: resultTTLSeconds,
                    streamLeave: streamLeave,
                    prices: try prices.map(TierWords.price),
                    quotas: try quotas.map(TierWords.quota),
                    rateLimits: try limits.parsed()
                ))
        }

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["tiers"], body: try body())) {
                TiersCommand.table([try $0.decoded(AdminTier.self)])
            }
        }
    }
}

/// The short forms of prices and quotas on the command line.
enum TierWords {
    /// `meter[:model]=price`.
    static func price(_ text: String) throws -> AdminPrice {
        let sides = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let names = sides[0].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard sides.count == 2, Meter(rawValue: names[0]) != nil, names.count == 1 || !names[1].isEmpty,
            UnitPrice(decimal: sides[1]) != nil
        else {
            throw ValidationError(
                "--price \(text): expected meter[:model]=price, as in input_token:iris=0.00000015; the meters are "
                    + Meter.allCases.map(\.rawValue).joined(separator: ", ")
                    + "; a price has at most twelve decimal places")
        }
        return AdminPrice(
            meter: names[0], model: names.count == 2 ? names[1] : PriceSheet.anyModel, unitPrice: String(sides[1]))
    }

    /// `unit/frequency=amount[:mode[:alignment[:percents]]]`; the server knows which units, frequencies, modes and alignments there are.
    static func quota(_ text: String) throws -> AdminQuota {
        let sides = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let names = sides[0].split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let values =
            sides.count == 2 ? sides[1].split(separator: ":", omittingEmptySubsequences: false).map(String.init) : []
        guard names.count == 2, names.allSatisfy({ !$0.isEmpty }), (1...4).contains(values.count),
            let amount = Int64(values[0]), amount >= 0, values.allSatisfy({ !$0.isEmpty }),
            let thresholds = values.count > 3 ? QuotaThresholds(text: values[3]) : .standard
        else {
            throw ValidationError(
                "--quota \(text): expected unit/frequency=amount[:mode[:alignment[:percents]]], as in requests/minute=600, tokens/month=1000000:soft or tokens/month=5000:soft:calendar:80,100"
            )
        }
        return AdminQuota(
            unit: names[0], frequency: names[1], amount: amount, mode: values.count > 1 ? values[1] : "hard",
            alignment: values.count > 2 ? values[2] : nil,
            thresholdsPercent: values.count > 3 ? thresholds.percents : nil)
    }
}
