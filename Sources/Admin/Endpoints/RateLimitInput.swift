internal import Domain
internal import HTTPListener

/// Rate limits as the admin API takes and shows them: a list, replaced as a whole.
struct RateLimitAnswer: Encodable {
    let scope: String
    let unit: String
    @Present var amount: Int64?
    @Present var burst: Int64?

    init(_ rule: RateLimitRule) {
        scope = rule.scope.rawValue
        unit = rule.unit.rawValue
        amount = rule.amount
        burst = rule.burst
    }
}

/// Whose limits are sent.
enum RateLimitPlace {
    /// Says a limit, of a tenant or of each of its keys.
    case tier
    /// Says it otherwise, or lifts it with an amount of `null`.
    case subscription
    /// As a subscription, and of this key alone.
    case key
}

extension InputObject {
    /// The field `rate_limits`.
    /// - Returns: `nil` where it was left out.
    func rateLimits(_ place: RateLimitPlace) -> [RateLimitRule]? {
        guard has("rate_limits") else { return nil }
        let fields: Set<String> = ["scope", "unit", "amount", "burst"]
        var rules: [RateLimitRule] = []
        var seen: Set<[String]> = []
        for item in objects("rate_limits", count: 0...6, fields: fields) {
            let scopes: [RateScope] = place == .key ? [.key] : RateScope.allCases
            let scope =
                place == .key ? item.optional("scope", .oneOf(scopes)) ?? .key : item.required("scope", .oneOf(scopes))
            let unit = item.required("unit", .oneOf(RateUnit.allCases))
            let number = InputRule<Int64>.integer(0...RateLimit.amountLimit)
            let isLifted = place != .tier && item.isNull("amount")
            let amount = isLifted ? nil : item.required("amount", number)
            let burst = item.nullable("burst", .integer(1...RateLimit.amountLimit))
            guard let scope, let unit, isLifted || amount != nil else { continue }
            if burst != nil, isLifted || unit == .concurrency {
                item.note("burst", "means nothing here", fix: "Leave it out: only limits per minute have a burst.")
            }
            if !seen.insert([scope.rawValue, unit.rawValue]).inserted {
                item.note("unit", "has a limit of this scope already", fix: "Send one limit for each scope and unit.")
            }
            rules.append(RateLimitRule(scope: scope, unit: unit, amount: amount, burst: burst))
        }
        return rules
    }
}
