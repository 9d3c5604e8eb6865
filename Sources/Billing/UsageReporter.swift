public import Domain

/// Turns quantities into the usage report that a customer reads: grouped as asked, rated by the price version of each entry, rounded once
/// per line.
public struct UsageReporter: Sendable {
    /// One line of a report. Dimensions that were not asked for are `nil`.
    public struct Line: Hashable, Sendable {
        public let day: Int?
        public let model: String?
        public let keyID: KeyID?
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

    private struct Key: Hashable {
        var day: Int?
        var model: String?
        var keyID: KeyID?
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
        _ rows: [UsageRow], sheets: [TierVersionID: PriceSheet], byDay: Bool, byModel: Bool, byKey: Bool
    ) throws(Failure) -> Report {
        var groups: [Key: Sums] = [:]
        var currencies: Set<String> = []
        for row in rows {
            guard let sheet = sheets[row.tierVersionID] else { throw .unknownPriceVersion(row.tierVersionID) }
            currencies.insert(sheet.currency)
            let key = Key(day: byDay ? row.day : nil, model: byModel ? row.model : nil, keyID: byKey ? row.keyID : nil)
            try groups[key, default: Sums()].add(row, at: sheet)
        }
        guard currencies.count <= 1 else { throw .mixedCurrencies }
        var lines: [Line] = []
        for (key, sums) in groups { lines.append(try line(key, sums)) }
        lines.sort { left, right in
            if left.day != right.day { return (left.day ?? 0) < (right.day ?? 0) }
            if left.model != right.model { return (left.model ?? "") < (right.model ?? "") }
            // Usage without a key comes first; calling it equal to every key would be no order at all.
            guard let leftKey = left.keyID, let rightKey = right.keyID else {
                return left.keyID == nil && right.keyID != nil
            }
            return leftKey < rightKey
        }
        return Report(lines: lines, total: try total(of: lines), currency: currencies.first ?? "")
    }

    /// Adds up the rounded lines, so that what is shown adds up.
    private func total(of lines: [Line]) throws(Failure) -> Line {
        var total = Line(
            day: nil, model: nil, keyID: nil, requests: 0, inputTokens: 0, cachedInputTokens: 0, outputTokens: 0,
            cost: .zero)
        for line in lines {
            total = Line(
                day: nil, model: nil, keyID: nil, requests: try Self.sum(total.requests, line.requests),
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
            day: key.day, model: key.model, keyID: key.keyID, requests: sums.requests,
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
