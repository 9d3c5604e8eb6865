/// The numbers of the rate limit that decided a refusal; a 429 carries them.
public struct RateRefusal: Hashable, Sendable {
    public let scope: RateScope
    public let unit: RateUnit
    public let limit: RateLimit
    /// What was left.
    public let remaining: Int64
    public let requested: Int64
    /// Until there may be room; `nil` where waiting cannot help.
    public let waitMilliseconds: Int64?
    /// Until the whole burst is there again.
    public let resetSeconds: Int64

    public init(
        scope: RateScope, unit: RateUnit, limit: RateLimit, remaining: Int64, requested: Int64,
        waitMilliseconds: Int64?, resetSeconds: Int64
    ) {
        self.scope = scope
        self.unit = unit
        self.limit = limit
        self.remaining = remaining
        self.requested = requested
        self.waitMilliseconds = waitMilliseconds
        self.resetSeconds = resetSeconds
    }

    public var policy: String { RateLimits.policy(scope, unit) }
}

extension Refusal {
    public static func rateLimited(_ numbers: RateRefusal) -> Refusal {
        let amount = numbers.limit.amount
        let limit =
            switch numbers.unit {
            case .requests: "\(amount) requests per minute, \(numbers.limit.burst) at once"
            case .tokens: "\(amount) tokens per minute, \(numbers.limit.burst) at once"
            case .concurrency: "\(amount) requests under way at once"
            }
        let advice =
            numbers.waitMilliseconds.map { "Try again in \($0) ms." }
            ?? "Waiting does not help: send less at once, or ask for a higher limit."
        var refusal = Refusal(
            .rateLimited,
            "The rate limit \(numbers.policy) is reached: \(limit). Left \(numbers.remaining), requested up to \(numbers.requested). \(advice)",
            retryAfterSeconds: numbers.waitMilliseconds.map { Int(clamping: max(1, ($0 + 999) / 1_000)) })
        refusal.rate = numbers
        return refusal
    }
}
