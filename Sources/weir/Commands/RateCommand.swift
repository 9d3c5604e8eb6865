import ArgumentParser
import Domain
import Foundation

/// Rates cases from a file, as invoices are rated; an independent program rates the same ones in the tests.
struct RateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rate",
        abstract: "Rate the cases of a file, without any server.",
        discussion: "Prints one JSON object a line. The form is that of Tests/golden/rating.json.",
        shouldDisplay: false)

    @Argument(help: "A JSON file with a list of cases under \"cases\".") var path: String

    func run() async throws {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw CommandFailure("cannot read \(path)")
        }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        for example in try RatingCase.list(data) {
            Terminal.say(String(decoding: try encoder.encode(try example.rated()), as: UTF8.self))
        }
    }
}

/// What a tenant was on and used in a month, and what that ought to cost.
struct RatingCase: Decodable, Sendable {
    struct Terms: Decodable, Sendable {
        struct Band: Decodable, Sendable {
            let upTo: Int64?
            let unitPrice: String
        }

        struct Rule: Decodable, Sendable {
            let meter: String
            let model: String
            let priceModel: String
            let unitPrice: String?
            let packageSize: Int64?
            let bands: [Band]?
        }

        struct ModelMultiplier: Decodable, Sendable {
            let meter: String
            let model: String
            let multiplier: String
        }

        let version: UInt64
        let currency: String
        let baseFeeMicros: Int64?
        let minimumCommitmentMicros: Int64?
        let includedRequests: Int64?
        let includedTokens: Int64?
        let rules: [Rule]?
        let multipliers: [ModelMultiplier]?
    }

    struct Span: Decodable, Sendable {
        let version: UInt64
        let start: String
        let end: String
        let trial: Bool?
    }

    struct Quantity: Decodable, Sendable {
        let version: UInt64
        let trial: Bool?
        let model: String
        let requests: Int64
        let inputTokens: Int64
        let cachedInputTokens: Int64?
        let outputTokens: Int64
    }

    struct Line: Codable, Hashable, Sendable {
        let kind: String
        let version: UInt64
        let model: String?
        let meter: String?
        let band: Int16?
        let start: String
        let end: String
        let quantityMillionths: String?
        let unitPrice: String?
        let amountMicros: Int64
    }

    struct Outcome: Codable, Hashable, Sendable {
        var currency: String?
        var lines: [Line]?
        var subtotalMicros: Int64?
        /// Why it cannot be rated.
        var failure: String?
    }

    private struct File: Decodable {
        let cases: [RatingCase]
    }

    let name: String
    let zone: String
    /// As in `2026-03`.
    let month: String
    let terms: [Terms]
    let spans: [Span]?
    let usage: [Quantity]?
    let expected: Outcome?

    static func list(_ data: Data) throws -> [RatingCase] {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(File.self, from: data).cases
    }

    /// - Throws: ``CommandFailure`` where the case itself makes no sense.
    func rated() throws -> Outcome {
        let terms = try Dictionary(
            terms.map { (Self.id($0.version), try $0.terms(in: self)) }, uniquingKeysWith: { first, _ in first })
        let (spans, usage, period) = (try subscriptionSpans, usageQuantities, try period)
        do throws(RatingFailure) {
            let rated = try Rating(period: period).rate(spans: spans, terms: terms, usage: usage)
            return Outcome(
                currency: rated.currency, lines: rated.lines.map(Line.init), subtotalMicros: rated.subtotal.value)
        } catch {
            switch error {
            case .amountTooLarge: return Outcome(failure: "amount_too_large")
            case .unknownTierVersion: return Outcome(failure: "unknown_tier_version")
            case .mixedCurrencies: return Outcome(failure: "mixed_currencies")
            }
        }
    }

    var period: Period {
        get throws {
            guard let calendar = PeriodCalendar(timeZone: zone), let day = CivilDate(iso8601: month + "-01") else {
                throw senseless("zone or month")
            }
            return calendar.period(containing: calendar.midnight(day), frequency: .month)
        }
    }

    var subscriptionSpans: [SubscriptionSpan] {
        get throws {
            try (spans ?? []).map { span in
                guard let start = Timestamp(rfc3339: span.start), let end = Timestamp(rfc3339: span.end) else {
                    throw senseless("span")
                }
                return SubscriptionSpan(
                    tierVersionID: Self.id(span.version), start: start, end: end, isTrial: span.trial ?? false)
            }
        }
    }

    var usageQuantities: [UsageQuantity] {
        (usage ?? []).map {
            UsageQuantity(
                tierVersionID: Self.id($0.version), isTrial: $0.trial ?? false, model: $0.model, requests: $0.requests,
                inputTokens: $0.inputTokens, cachedInputTokens: $0.cachedInputTokens ?? 0,
                outputTokens: $0.outputTokens)
        }
    }

    static func id(_ version: UInt64) -> TierVersionID { TierVersionID(high: 0, low: version) }

    fileprivate func senseless(_ what: String) -> CommandFailure {
        CommandFailure("the case \(name) has a \(what) that cannot be read")
    }
}

extension RatingCase.Terms {
    fileprivate func terms(in example: RatingCase) throws -> TierTerms {
        TierTerms(
            tierVersionID: RatingCase.id(version), tierCode: "tier", version: 1, currency: currency,
            baseFee: Micros(baseFeeMicros ?? 0), minimumCommitment: Micros(minimumCommitmentMicros ?? 0),
            includedRequests: includedRequests ?? 0, includedTokens: includedTokens ?? 0,
            rules: try (rules ?? []).map { rule in
                guard let meter = Meter(rawValue: rule.meter), let price = rule.price else {
                    throw example.senseless("rule")
                }
                return PriceRule(meter: meter, model: rule.model, price: price)
            },
            multipliers: try (multipliers ?? []).map { one in
                guard let meter = Meter(rawValue: one.meter), let multiplier = Multiplier(decimal: one.multiplier)
                else { throw example.senseless("multiplier") }
                return TierTerms.ModelMultiplier(meter: meter, model: one.model, multiplier: multiplier)
            })
    }
}

extension RatingCase.Terms.Rule {
    fileprivate var price: PriceModel? {
        let steps = (bands ?? []).compactMap { band in
            UnitPrice(decimal: band.unitPrice).map { PriceBand(upTo: band.upTo, unitPrice: $0) }
        }
        guard steps.count == (bands ?? []).count else { return nil }
        let price: PriceModel? =
            switch priceModel {
            case "flat": unitPrice.flatMap { UnitPrice(decimal: $0) }.map { .flat($0) }
            case "graduated": .graduated(steps)
            case "volume": .volume(steps)
            case "package":
                unitPrice.flatMap { UnitPrice(decimal: $0) }.flatMap { price in
                    packageSize.map { .package(size: $0, price: price) }
                }
            default: nil
            }
        return price.flatMap { $0.isWellFormed ? $0 : nil }
    }
}

extension RatingCase.Line {
    fileprivate init(_ line: RatedLine) {
        self.init(
            kind: line.kind.rawValue, version: line.tierVersionID.low, model: line.model, meter: line.meter?.rawValue,
            band: line.band, start: line.start.description, end: line.end.description,
            quantityMillionths: line.quantityMillionths.map { String($0) }, unitPrice: line.unitPrice?.description,
            amountMicros: line.amount.value)
    }
}
