public import Domain

/// Turns quantities into the usage report that a customer reads: grouped as asked, rated by the price version of each entry, rounded once
/// per line.
///
/// A line is rated alone, by the price of each unit: what a tier includes, and what changes with the quantity of a whole period, cannot be told of
/// a part of it. What a period costs is what ``Rating`` says.
public struct UsageReporter: Sendable {
    /// One line of a report. Dimensions that were not asked for are `nil`.
    public struct Line: Hashable, Sendable {
        public let day: Int?
        public let model: String?
        public let keyID: KeyID?
        public let userID: UserID?
        /// The code of a tier, all of its versions together.
        public let tier: String?
        public let tag: String?
        public let requests: Int64
        public let inputTokens: Int64
        public let cachedInputTokens: Int64
        public let outputTokens: Int64
        public let cost: Micros
    }

    public struct Report: Sendable {
        public let lines: [Line]
        public let total: Line
        /// ISO 4217; empty when nothing was used.
        public let currency: String
    }

    /// Raised where usage cannot be rated.
    public enum Failure: Error, Hashable, Sendable {
        /// The ledger names a price version that does not exist.
        case unknownPriceVersion(TierVersionID)
        /// An amount does not fit into 64 bits of micro-units, or a quantity not into 64 bits.
        case amountTooLarge
        /// Price versions of different currencies cannot be added up.
        case mixedCurrencies
    }

    /// By what usage can be told apart.
    public enum Dimension: String, Sendable, CaseIterable {
        case day, model, key, user, tier, tag
    }

    private struct Key: Hashable {
        var day: Int?
        var model: String?
        var keyID: KeyID?
        var userID: UserID?
        var tier: String?
        var tag: String?
    }

    private struct Sums {
        var requests: Int64 = 0
        var usage = Usage(inputTokens: 0, outputTokens: 0, source: .worker)
        var amount = ExactAmount()

        mutating func add(_ row: UsageRow, at sheet: PriceSheet) throws(Failure) {
            requests = try UsageReporter.sum(requests, row.requests)
            usage.inputTokens = try UsageReporter.sum(usage.inputTokens, row.inputTokens)
            usage.cachedInputTokens = try UsageReporter.sum(usage.cachedInputTokens, row.cachedInputTokens)
            usage.outputTokens = try UsageReporter.sum(usage.outputTokens, row.outputTokens)
            let part = Usage(
                inputTokens: row.inputTokens, cachedInputTokens: row.cachedInputTokens, outputTokens: row.outputTokens,
                source: .worker)
            amount = amount + sheet.amount(requests: row.requests, usage: part, model: row.model)
        }
    }

    public init() {}

    /// - Parameters:
    ///   - sheets: the price sheet of every version that the rows name.
    /// - Throws: ``Failure``.
    public func report(
        _ rows: [UsageRow], sheets: [TierVersionID: PriceSheet], by dimensions: Set<Dimension>
    ) throws(Failure) -> Report {
        var groups: [Key: Sums] = [:]
        var currencies: Set<String> = []
        for row in rows {
            guard let sheet = sheets[row.tierVersionID] else { throw .unknownPriceVersion(row.tierVersionID) }
            currencies.insert(sheet.currency)
            let key = Key(
                day: dimensions.contains(.day) ? row.day : nil, model: dimensions.contains(.model) ? row.model : nil,
                keyID: dimensions.contains(.key) ? row.keyID : nil,
                userID: dimensions.contains(.user) ? row.userID : nil,
                tier: dimensions.contains(.tier) ? sheet.tierCode : nil,
                tag: dimensions.contains(.tag) ? row.tag : nil)
            try groups[key, default: Sums()].add(row, at: sheet)
        }
        guard currencies.count <= 1 else { throw .mixedCurrencies }
        var lines: [Line] = []
        for (key, sums) in groups { lines.append(try line(key, sums)) }
        lines.sort(by: Self.isBefore)
        return Report(lines: lines, total: try total(of: lines), currency: currencies.first ?? "")
    }

    private static func isBefore(_ left: Line, _ right: Line) -> Bool {
        if left.day != right.day { return (left.day ?? 0) < (right.day ?? 0) }
        if left.tag != right.tag { return (left.tag ?? "") < (right.tag ?? "") }
        if left.tier != right.tier { return (left.tier ?? "") < (right.tier ?? "") }
        if left.model != right.model { return (left.model ?? "") < (right.model ?? "") }
        if left.userID != right.userID { return isBefore(left.userID, right.userID) }
        return isBefore(left.keyID, right.keyID)
    }

    /// Usage without one comes first; calling it equal to every one would be no order at all.
    private static func isBefore<ID: Comparable>(_ left: ID?, _ right: ID?) -> Bool {
        guard let left, let right else { return left == nil && right != nil }
        return left < right
    }

    /// Adds up the rounded lines, so that what is shown adds up.
    private func total(of lines: [Line]) throws(Failure) -> Line {
        var total = Line(
            day: nil, model: nil, keyID: nil, userID: nil, tier: nil, tag: nil, requests: 0, inputTokens: 0,
            cachedInputTokens: 0, outputTokens: 0, cost: .zero)
        for line in lines {
            total = Line(
                day: nil, model: nil, keyID: nil, userID: nil, tier: nil, tag: nil,
                requests: try Self.sum(total.requests, line.requests),
                inputTokens: try Self.sum(total.inputTokens, line.inputTokens),
                cachedInputTokens: try Self.sum(total.cachedInputTokens, line.cachedInputTokens),
                outputTokens: try Self.sum(total.outputTokens, line.outputTokens),
                cost: Micros(try Self.sum(total.cost.value, line.cost.value)))
        }
        return total
    }

    /// A sum that is refused rather than trapped: a report must not be able to end the process.
    private static func sum(_ left: Int64, _ right: Int64) throws(Failure) -> Int64 {
        let (sum, overflow) = left.addingReportingOverflow(right)
        guard !overflow else { throw .amountTooLarge }
        return sum
    }

    private func line(_ key: Key, _ sums: Sums) throws(Failure) -> Line {
        guard let cost = sums.amount.rounded else { throw .amountTooLarge }
        return Line(
            day: key.day, model: key.model, keyID: key.keyID, userID: key.userID, tier: key.tier, tag: key.tag,
            requests: sums.requests,
            inputTokens: sums.usage.inputTokens,
            cachedInputTokens: sums.usage.cachedInputTokens, outputTokens: sums.usage.outputTokens, cost: cost)
    }
}

extension UsageReporter.Failure {
    /// What whoever asked for the report is told.
    public var refusal: Refusal {
        switch self {
        case .mixedCurrencies:
            Refusal(
                .conflict,
                "The tiers of this time had different currencies, which cannot be added up. Ask for a shorter range.")
        case .unknownPriceVersion, .amountTooLarge:
            Refusal(.internalError, "The usage cannot be rated.", cause: "\(self)")
        }
    }
}
