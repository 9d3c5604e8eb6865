/// What a rate limit counts.
public enum RateUnit: String, Sendable, CaseIterable {
    /// Requests per minute.
    case requests
    /// Tokens per minute.
    case tokens
    /// Requests under way at once.
    case concurrency
}

/// Whose rate is limited.
public enum RateScope: String, Sendable, CaseIterable {
    /// All keys of a tenant together.
    case tenant
    /// Each key for itself.
    case key
}

/// One limit: so many units per minute, and so many at once. Of concurrency there is no minute; `amount` is how many may be under way.
public struct RateLimit: Hashable, Sendable {
    /// Units per minute, or at once for concurrency; 0 admits nothing.
    public let amount: Int64
    /// The most units that may come at once after a pause.
    public let burst: Int64

    /// - Parameter burst: `nil` means a minute's amount.
    public init(amount: Int64, burst: Int64? = nil) {
        self.amount = amount
        self.burst = burst ?? amount
    }

    /// What a number of units may be at most, for limits and requests alike.
    public static let amountLimit: Int64 = 1_000_000_000_000
    /// No credit is larger, so that sums of several and of an instant stay exact where a script counts in 53 bits.
    public static let creditLimit: Int64 = 1 << 50

    private static let microsecondsPerMinute: Int64 = 60_000_000

    /// Units as time: the microseconds in which the limit allows that many, rounded up, so that rounding never admits more. Saturates.
    public func microseconds(for units: Int64) -> Int64 {
        guard units > 0 else { return 0 }
        guard amount > 0 else { return Self.creditLimit }
        let product = units.multipliedFullWidth(by: Self.microsecondsPerMinute)
        guard product.high < amount else { return Self.creditLimit }
        // Unsigned: a signed quotient has one bit less than the guard leaves room for.
        let (quotient, remainder) = UInt64(amount).dividingFullWidth((UInt64(product.high), product.low))
        guard quotient < UInt64(Self.creditLimit) else { return Self.creditLimit }
        return Int64(quotient) + (remainder > 0 ? 1 : 0)
    }

    /// The whole units that the limit allows in this time. Saturates.
    public func units(in microseconds: Int64) -> Int64 {
        guard microseconds > 0, amount > 0 else { return 0 }
        let product = microseconds.multipliedFullWidth(by: amount)
        guard product.high < Self.microsecondsPerMinute else { return .max }
        return Self.microsecondsPerMinute.dividingFullWidth(product).quotient
    }
}

/// The limits of one scope; `nil` is none.
public struct ScopeLimits: Hashable, Sendable {
    public let requests: RateLimit?
    public let tokens: RateLimit?
    public let concurrency: RateLimit?

    public init(requests: RateLimit? = nil, tokens: RateLimit? = nil, concurrency: RateLimit? = nil) {
        self.requests = requests
        self.tokens = tokens
        self.concurrency = concurrency
    }

    public static let none = ScopeLimits()
    public var isEmpty: Bool { requests == nil && tokens == nil && concurrency == nil }

    public subscript(unit: RateUnit) -> RateLimit? {
        switch unit {
        case .requests: requests
        case .tokens: tokens
        case .concurrency: concurrency
        }
    }

    /// What one request of `tokens` tokens takes; 0 of what is not limited.
    public func credit(tokens count: Int64) -> RateCredit {
        RateCredit(
            requests: requests?.microseconds(for: 1) ?? 0, tokens: tokens?.microseconds(for: count) ?? 0,
            concurrency: concurrency == nil ? 0 : 1)
    }

    /// The most that may be charged and held at any instant.
    public var capacity: RateCapacity {
        RateCapacity(
            requests: requests.map { $0.microseconds(for: $0.burst) },
            tokens: tokens.map { $0.microseconds(for: $0.burst) }, concurrency: concurrency?.amount)
    }

    /// The limit that not even an untouched account could meet.
    public func impossibleUnit(tokens count: Int64) -> RateUnit? {
        if let requests, requests.amount < 1 || requests.burst < 1 { return .requests }
        if let tokens, tokens.amount < 1 || tokens.burst < count { return .tokens }
        if let concurrency, concurrency.amount < 1 { return .concurrency }
        return nil
    }
}

/// The rate limits of a caller: of its tenant, and of its key.
public struct RateLimits: Hashable, Sendable {
    public let tenant: ScopeLimits
    public let key: ScopeLimits

    public init(tenant: ScopeLimits = .none, key: ScopeLimits = .none) {
        self.tenant = tenant
        self.key = key
    }

    public var isEmpty: Bool { tenant.isEmpty && key.isEmpty }

    public subscript(scope: RateScope) -> ScopeLimits { scope == .tenant ? tenant : key }

    /// The name of a limit in `RateLimit-Policy` and in answers.
    public static func policy(_ scope: RateScope, _ unit: RateUnit) -> String {
        switch (scope, unit) {
        case (.tenant, .requests): "rpm"
        case (.tenant, .tokens): "tpm"
        case (.tenant, .concurrency): "concurrency"
        case (.key, .requests): "key-rpm"
        case (.key, .tokens): "key-tpm"
        case (.key, .concurrency): "key-concurrency"
        }
    }
}

/// One rate limit as a tier, a subscription or a key states it.
public struct RateLimitRule: Hashable, Sendable {
    public let scope: RateScope
    public let unit: RateUnit
    /// Units per minute, or at once for concurrency; `nil` lifts the limit that would be there otherwise.
    public let amount: Int64?
    /// `nil` means a minute's amount; concurrency has none.
    public let burst: Int64?

    public init(scope: RateScope, unit: RateUnit, amount: Int64?, burst: Int64? = nil) {
        self.scope = scope
        self.unit = unit
        self.amount = amount
        self.burst = burst
    }
}

extension RateLimits {
    /// - Returns: `nil` where no rule limits anything, so that a request of an unlimited caller asks nothing more.
    public init?(_ rules: [RateLimitRule]) {
        func limits(_ scope: RateScope) -> ScopeLimits {
            func limit(_ unit: RateUnit) -> RateLimit? {
                guard let rule = rules.last(where: { $0.scope == scope && $0.unit == unit }) else { return nil }
                return rule.amount.map { RateLimit(amount: $0, burst: rule.burst) }
            }
            return ScopeLimits(requests: limit(.requests), tokens: limit(.tokens), concurrency: limit(.concurrency))
        }
        self.init(tenant: limits(.tenant), key: limits(.key))
        if isEmpty { return nil }
    }
}
