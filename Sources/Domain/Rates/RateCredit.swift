/// An amount of all three units at once: requests and tokens as the microseconds in which their limit allows them, concurrency in slots.
///
/// As time, an amount means the same to a script that knows no limits, and keeps its meaning when a limit changes.
public struct RateCredit: Hashable, Sendable {
    public var requests: Int64
    public var tokens: Int64
    public var concurrency: Int64

    public init(requests: Int64 = 0, tokens: Int64 = 0, concurrency: Int64 = 0) {
        self.requests = requests
        self.tokens = tokens
        self.concurrency = concurrency
    }

    public static let zero = RateCredit()

    public subscript(unit: RateUnit) -> Int64 {
        get {
            switch unit {
            case .requests: requests
            case .tokens: tokens
            case .concurrency: concurrency
            }
        }
        set {
            switch unit {
            case .requests: requests = newValue
            case .tokens: tokens = newValue
            case .concurrency: concurrency = newValue
            }
        }
    }

    public static func + (left: RateCredit, right: RateCredit) -> RateCredit {
        RateCredit(
            requests: left.requests + right.requests, tokens: left.tokens + right.tokens,
            concurrency: left.concurrency + right.concurrency)
    }

    public static func - (left: RateCredit, right: RateCredit) -> RateCredit {
        RateCredit(
            requests: left.requests - right.requests, tokens: left.tokens - right.tokens,
            concurrency: left.concurrency - right.concurrency)
    }

    /// The larger of each unit.
    public func union(_ other: RateCredit) -> RateCredit {
        RateCredit(
            requests: max(requests, other.requests), tokens: max(tokens, other.tokens),
            concurrency: max(concurrency, other.concurrency))
    }

    /// This, so many times; saturates at ``RateLimit/creditLimit``.
    func times(_ count: Int64) -> RateCredit {
        func product(_ value: Int64) -> Int64 {
            let product = value.multipliedReportingOverflow(by: count)
            return product.overflow ? RateLimit.creditLimit : min(product.partialValue, RateLimit.creditLimit)
        }
        return RateCredit(requests: product(requests), tokens: product(tokens), concurrency: product(concurrency))
    }
}

/// The most of each unit that may be charged and held at any instant; `nil` is no limit.
public struct RateCapacity: Hashable, Sendable {
    public let requests: Int64?
    public let tokens: Int64?
    public let concurrency: Int64?

    public init(requests: Int64? = nil, tokens: Int64? = nil, concurrency: Int64? = nil) {
        self.requests = requests
        self.tokens = tokens
        self.concurrency = concurrency
    }

    public subscript(unit: RateUnit) -> Int64? {
        switch unit {
        case .requests: requests
        case .tokens: tokens
        case .concurrency: concurrency
        }
    }
}
