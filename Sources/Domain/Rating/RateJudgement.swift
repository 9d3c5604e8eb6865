/// A rate limit that would have refused something of what was used, however it came within its minutes.
public struct RateOverrun: Hashable, Sendable {
    public let scope: RateScope
    public let unit: RateUnit
    public let amount: Int64
    /// `nil` of concurrency.
    public let burst: Int64?
    /// The first minute in which it would have.
    public let minute: Timestamp
    /// What was used in it at least: requests or tokens, or how many requests were under way on average, rounded up.
    public let used: Int64
}

/// What is known of a limit and of what was used.
public enum RateJudgement: Hashable, Sendable {
    /// Everything would have been let through, however it came within its minutes.
    case kept
    /// Something would have been refused, however it came.
    case refused(RateOverrun)
    case unknown
}

extension UsageMinutes {
    /// Judges a limit as one limiter would enforce it that begins with its whole burst: what gateways set aside for one another is no part of it.
    ///
    /// Of a key's limit it is only known that it was kept where all keys together kept it.
    func judge(_ rule: RateLimitRule) -> RateJudgement {
        guard let amount = rule.amount else { return .kept }
        let limit = RateLimit(amount: amount, burst: rule.burst)
        let refusal = rule.scope == .tenant ? refusal(of: rule, limit) : nil
        if let refusal { return .refused(refusal) }
        return isWhole && !isWithoutRows && isKept(rule.unit, limit) ? .kept : .unknown
    }

    // MARK: At least

    private func refusal(of rule: RateLimitRule, _ limit: RateLimit) -> RateOverrun? {
        guard let minute = rule.unit == .concurrency ? busiest(limit) : overdrawn(rule.unit, limit) else { return nil }
        let average = (minute.busyMicroseconds - 1) / UsageMinute.microseconds + 1
        return RateOverrun(
            scope: rule.scope, unit: rule.unit, amount: limit.amount,
            burst: rule.unit == .concurrency ? nil : limit.burst, minute: minute.start,
            used: rule.unit == .requests
                ? minute.admitted
                : rule.unit == .tokens ? minute.leastTokens : limit.amount == 0 ? minute.admitted : average)
    }

    /// With no more than the limit under way at any instant, a minute has no more than its own length of each.
    private func busiest(_ limit: RateLimit) -> UsageMinute? {
        minutes.first { minute in
            guard limit.amount > 0 else { return minute.admitted > 0 }
            return Int128(minute.busyMicroseconds) > Int128(limit.amount) * Int128(UsageMinute.microseconds)
        }
    }

    /// The first minute that cannot have been let through. A bucket that was charged so much and emptied all the minute long is at least this
    /// full behind the last of it, which came a microsecond before the end at the latest. What a request held while it ran was no less than what it
    /// was charged, and did not empty, so charging it when it came is the kindest.
    private func overdrawn(_ unit: RateUnit, _ limit: RateLimit) -> UsageMinute? {
        let capacity = Int128(limit.microseconds(for: limit.burst))
        var level: Int128 = 0
        var position = minutes.first?.number ?? 0
        for minute in minutes {
            let units = unit == .requests ? minute.admitted : minute.leastTokens
            guard units > 0 else { continue }
            guard limit.amount > 0 else { return minute }
            level = Self.emptied(level, by: minute.number - position)
            position = minute.number + 1
            let charged =
                unit == .requests
                ? Int128(units) * Int128(limit.microseconds(for: 1)) : Int128(limit.microseconds(for: units))
            level += charged - Int128(UsageMinute.microseconds)
            if level >= capacity { return minute }
            level = max(0, level)
        }
        return nil
    }

    // MARK: At most

    /// Whether a limit holds where all that comes in a minute comes at once, at the worst of its instants, and holds what it can until the end of
    /// the minute in which the last of it had ended. Nothing empties within a minute in which something comes before that has come.
    private func isKept(_ unit: RateUnit, _ limit: RateLimit) -> Bool {
        let capacity = unit == .concurrency ? Int128(limit.amount) : Int128(limit.microseconds(for: limit.burst))
        var level: Int128 = 0
        var position = minutes.first?.number ?? 0
        var running = RunningGroups()
        for minute in minutes where minute.arrivals > 0 {
            guard limit.amount > 0 else { return false }
            while let ended = running.end(before: minute.number) {
                level = Self.emptied(level, by: ended.lastMinute + 1 - position) + ended.charge
                position = ended.lastMinute + 1
            }
            level = Self.emptied(level, by: minute.number - position)
            position = minute.number
            switch unit {
            case .concurrency:
                running.begin(Int128(minute.arrivals), charging: 0, until: minute.lastNumber)
            case .requests:
                let cost = Int128(minute.arrivals) * Int128(limit.microseconds(for: 1))
                running.begin(cost, charging: cost, until: minute.number)
            case .tokens:
                // No request that asks for more than the burst is ever let through.
                guard minute.heldTokens <= limit.burst else { return false }
                running.begin(
                    Self.most(minute.heldTokens, minute.arrivals, limit),
                    charging: Self.most(minute.mostTokens, minute.arrivals, limit), until: minute.lastNumber)
            }
            guard level + running.held <= capacity else { return false }
        }
        return true
    }

    /// The most time that so many tokens of so many requests are together: each request's are rounded up.
    private static func most(_ tokens: Int64, _ requests: Int64, _ limit: RateLimit) -> Int128 {
        Int128(tokens) * Int128(UsageMinute.microseconds) / Int128(limit.amount) + 1 + Int128(requests)
    }

    private static func emptied(_ level: Int128, by minutes: Int64) -> Int128 {
        max(0, level - Int128(minutes) * Int128(UsageMinute.microseconds))
    }
}

/// What came in the same minute is taken to run until the last of it has ended.
private struct RunningGroups {
    struct Group {
        let lastMinute: Int64
        let held: Int128
        let charge: Int128
    }

    /// Those that end last first.
    private var groups: [Group] = []
    private(set) var held: Int128 = 0

    mutating func begin(_ held: Int128, charging charge: Int128, until lastMinute: Int64) {
        let place = groups.lastIndex { $0.lastMinute >= lastMinute }.map { $0 + 1 } ?? 0
        groups.insert(Group(lastMinute: lastMinute, held: held, charge: charge), at: place)
        self.held += held
    }

    /// Ends one that ended before a minute, the earliest first.
    mutating func end(before minute: Int64) -> Group? {
        guard let last = groups.last, last.lastMinute < minute else { return nil }
        groups.removeLast()
        held -= last.held
        return last
    }
}
