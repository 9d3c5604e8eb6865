public import Domain

/// What of an included amount is used, in whole units as they are priced.
public struct IncludedRest: Hashable, Sendable {
    public enum Unit: String, Sendable {
        case requests, tokens
    }

    public let unit: Unit
    /// Of the tier version and the part of the period that the tenant is on it.
    public let amount: Int64
    /// Rounded up: a begun unit is used.
    public let used: Int64

    /// Of every tier version of the period that includes something, all its included amounts together.
    /// - Parameter rated: the same input, rated.
    public static func of(_ rated: RatedPeriod, _ input: RatingInput, _ period: Period) -> [IncludedRest] {
        let length = Int128(period.end.microsecondsSince1970) - Int128(period.start.microsecondsSince1970)
        guard length > 0 else { return [] }
        var amounts: [Unit: Int128] = [:]
        for (version, terms) in input.terms {
            let covered = input.spans.filter { $0.tierVersionID == version && !$0.isTrial }.reduce(Int128(0)) {
                $0 + Int128($1.end.microsecondsSince1970) - Int128($1.start.microsecondsSince1970)
            }
            // Rounded down, as rating does it.
            amounts[.requests, default: 0] += Int128(terms.includedRequests) * covered / length
            amounts[.tokens, default: 0] += Int128(terms.includedTokens) * covered / length
        }
        var used: [Unit: Int128] = [:]
        for line in rated.lines where line.kind == .included {
            used[line.meter == .request ? .requests : .tokens, default: 0] += line.quantityMillionths ?? 0
        }
        return [Unit.requests, .tokens].compactMap { unit in
            guard let amount = amounts[unit], amount > 0 else { return nil }
            return IncludedRest(
                unit: unit, amount: Int64(clamping: amount),
                used: Int64(clamping: ((used[unit] ?? 0) + 999_999) / 1_000_000))
        }
    }
}
