import TestSupport
import Testing

@testable import Domain

/// What minutes say of a limit against a limiter that sees every request.
@Suite("Judging rate limits by minutes")
struct RateJudgementTests {
    private static let start: Int64 = 1_775_001_600_000_000

    /// A request as the limiter sees it.
    private struct Call {
        let at: Int64
        let end: Int64
        let held: Int64
        let used: Int64
        /// One that failed took its limits and is no usage.
        let isAnswered: Bool
    }

    private static func calls(_ random: inout SeededRandom) -> [Call] {
        var calls: [Call] = []
        let longest = [100_000, 5_000_000, 90_000_000, 400_000_000].randomElement(using: &random) ?? 1
        let most = Int.random(in: 1...12, using: &random)
        var minute: Int64 = 0
        for _ in 0..<Int.random(in: 1...6, using: &random) {
            let isBurst = Bool.random(using: &random)
            let place = Int64.random(in: 0..<60_000_000, using: &random)
            for _ in 0..<Int.random(in: 0...most, using: &random) {
                let at = start + minute * 60_000_000 + (isBurst ? place : .random(in: 0..<60_000_000, using: &random))
                let held = Int64.random(in: 0...50, using: &random)
                let isAnswered = Int.random(in: 0..<8, using: &random) > 0
                calls.append(
                    Call(
                        at: at, end: at + Int64.random(in: 0...Int64(longest), using: &random), held: held,
                        used: isAnswered ? .random(in: 0...held, using: &random) : 0, isAnswered: isAnswered))
            }
            minute += [1, 1, 2, 5].randomElement(using: &random) ?? 1
        }
        return calls.sorted { $0.at < $1.at }
    }

    private static func minutes(_ calls: [Call]) -> UsageMinutes {
        let groups = Dictionary(grouping: calls) { $0.at / 60_000_000 }
        let minutes = groups.map { number, calls in
            let answered = calls.filter(\.isAnswered)
            func sum(_ calls: [Call], _ value: (Call) -> Int64) -> Int64 { calls.reduce(0) { $0 + value($1) } }
            return UsageMinute(
                start: Timestamp(microsecondsSince1970: number * 60_000_000), requests: Int64(answered.count),
                tokens: sum(answered, \.used), arrivals: Int64(calls.count), heldTokens: sum(calls, \.held),
                mostTokens: sum(calls, \.used), admitted: Int64(answered.count), leastTokens: sum(answered, \.used),
                busyMicroseconds: sum(answered) { min($0.end, (number + 1) * 60_000_000) - $0.at },
                lastEnd: calls.map(\.end).max().map { Timestamp(microsecondsSince1970: $0) })
        }
        let quarters = Dictionary(grouping: minutes) { $0.start.usageBucketStart }.map { start, minutes in
            UsageQuarter(
                start: start, requests: minutes.reduce(0) { $0 + $1.requests },
                tokens: minutes.reduce(0) { $0 + $1.tokens })
        }
        return UsageMinutes(minutes.shuffled(), of: quarters)
    }

    /// Whether the product's own algorithm lets all of them through, each at its instant.
    private static func admitsAll(_ calls: [Call], _ unit: RateUnit, _ limit: RateLimit) -> Bool {
        let tolerance = limit.microseconds(for: limit.burst)
        var bucket = GCRA()
        var running: [Call] = []
        for call in calls {
            for ended in running.filter({ $0.end < call.at }).sorted(by: { $0.end < $1.end }) where unit == .tokens {
                bucket.charge(limit.microseconds(for: ended.used), at: ended.end, ceiling: ended.end + tolerance)
            }
            running.removeAll { $0.end < call.at }
            let isPossible = ScopeLimits(
                requests: unit == .requests ? limit : nil, tokens: unit == .tokens ? limit : nil,
                concurrency: unit == .concurrency ? limit : nil
            ).impossibleUnit(tokens: call.held)
            guard isPossible == nil else { return false }
            switch unit {
            case .requests:
                guard bucket.take(limit.microseconds(for: 1), at: call.at, tolerance: tolerance) == 0 else {
                    return false
                }
            case .tokens:
                let held = running.reduce(0) { $0 + limit.microseconds(for: $1.held) }
                let need = limit.microseconds(for: call.held)
                guard bucket.wait(for: need, held: held, at: call.at, tolerance: tolerance) == 0 else { return false }
            case .concurrency: guard running.count < limit.amount else { return false }
            }
            running.append(call)
        }
        return true
    }

    @Test(
        "never refused where the limiter lets all through, never kept where it refuses one, and mostly one of the two",
        arguments: RateUnit.allCases)
    func sound(unit: RateUnit) {
        var random = SeededRandom(seed: 4_051)
        var (refused, kept, unknown) = (0, 0, 0)
        for round in 0..<12_000 {
            let calls = Self.calls(&random)
            let largest: Int64 = unit == .tokens ? 300 : unit == .requests ? 14 : 8
            // Limits of all sizes, small ones as often as large ones.
            let amount = Int64.random(in: 0...(Int64(1) << Int64.random(in: 0...12, using: &random)), using: &random)
            let burst =
                unit == .concurrency || Bool.random(using: &random)
                ? nil : Int64.random(in: 1...largest * 4, using: &random)
            let limit = RateLimit(amount: amount, burst: burst)
            let judgement = Self.minutes(calls).judge(
                RateLimitRule(scope: .tenant, unit: unit, amount: amount, burst: burst))
            let admitsAll = Self.admitsAll(calls, unit, limit)
            switch judgement {
            case .refused:
                refused += 1
                #expect(!admitsAll, "round \(round): \(limit) \(calls)")
            case .kept:
                kept += 1
                #expect(admitsAll, "round \(round): \(limit) \(calls)")
            case .unknown: unknown += 1
            }
        }
        #expect(refused > 1_000 && kept > 3_000, "\(unit): \(refused) refused, \(kept) kept, \(unknown) unknown")
    }

    /// As much as a limit lets through, each as early as that is possible.
    private static func most(_ unit: RateUnit, _ limit: RateLimit, _ random: inout SeededRandom) -> [Call] {
        var (calls, now, bucket) = ([Call](), start, GCRA())
        let end = start + Int64.random(in: 1...5, using: &random) * 60_000_000
        if unit == .concurrency {
            for _ in 0..<limit.amount {
                var now = start
                while now < end {
                    let next = now + Int64.random(in: 1...90_000_000, using: &random)
                    calls.append(Call(at: now, end: next, held: 1, used: 1, isAnswered: true))
                    now = next + 1
                }
            }
            return calls.sorted { $0.at < $1.at }
        }
        while now < end {
            let tokens = unit == .tokens ? Int64.random(in: 1...limit.burst, using: &random) : 0
            let amount = limit.microseconds(for: unit == .tokens ? tokens : 1)
            now += bucket.wait(for: amount, at: now, tolerance: limit.microseconds(for: limit.burst))
            guard now < end else { break }
            _ = bucket.take(amount, at: now, tolerance: limit.microseconds(for: limit.burst))
            calls.append(Call(at: now, end: now, held: tokens, used: tokens, isAnswered: true))
        }
        return calls
    }

    @Test("all that a limiter can let through is never refused", arguments: RateUnit.allCases)
    func kindest(unit: RateUnit) {
        var random = SeededRandom(seed: 88)
        for round in 0..<400 {
            let limit = RateLimit(
                amount: .random(in: 1...40, using: &random), burst: .random(in: 1...60, using: &random))
            let calls = Self.most(unit, limit, &random)
            let judgement = Self.minutes(calls).judge(
                RateLimitRule(
                    scope: .tenant, unit: unit, amount: limit.amount, burst: unit == .concurrency ? nil : limit.burst))
            if case .refused = judgement { Issue.record("round \(round): \(limit), \(calls.count) let through") }
            // One more than all of it is.
            guard unit == .requests, let last = calls.last else { continue }
            let more = calls + [Call(at: last.at, end: last.at, held: 0, used: 0, isAnswered: true)]
            guard
                case .refused = Self.minutes(more).judge(
                    RateLimitRule(scope: .tenant, unit: unit, amount: limit.amount, burst: limit.burst))
            else {
                Issue.record("round \(round): \(limit), \(more.count) are too many")
                continue
            }
        }
    }

    private static func minute(
        _ number: Int64, _ requests: Int64, tokens: Int64 = 0, busy: Int64 = 0, runs: Int64 = 0
    ) -> UsageMinute {
        UsageMinute(
            start: Timestamp(microsecondsSince1970: start + number * 60_000_000), requests: requests, tokens: tokens,
            arrivals: requests, heldTokens: tokens, mostTokens: tokens, admitted: requests, leastTokens: tokens,
            busyMicroseconds: busy,
            lastEnd: Timestamp(microsecondsSince1970: start + number * 60_000_000 + runs))
    }

    private static func judge(
        _ minutes: [UsageMinute], _ unit: RateUnit, _ amount: Int64?, burst: Int64? = nil, scope: RateScope = .tenant,
        isWhole: Bool = true
    ) -> RateJudgement {
        let quarters =
            isWhole ? [] : [UsageQuarter(start: Timestamp(microsecondsSince1970: start), requests: 1, tokens: 0)]
        let empty = minutes.map { minute in
            UsageMinute(
                start: minute.start, requests: 0, tokens: 0, arrivals: minute.arrivals, heldTokens: minute.heldTokens,
                mostTokens: minute.mostTokens, admitted: minute.admitted, leastTokens: minute.leastTokens,
                busyMicroseconds: minute.busyMicroseconds, lastEnd: minute.lastEnd)
        }
        return UsageMinutes(empty, of: quarters).judge(
            RateLimitRule(scope: scope, unit: unit, amount: amount, burst: burst))
    }

    @Test("the edges: a burst that just fits, one more than a minute can take, and what is carried into the next")
    func edges() {
        let sixty = [Self.minute(0, 60)]
        #expect(Self.judge(sixty, .requests, 60) == .kept && Self.judge(sixty, .requests, 59) == .unknown)
        // A burst of 10 and one each second: the 70th could come when the minute is over.
        #expect(Self.judge([Self.minute(0, 69)], .requests, 60, burst: 10) == .unknown)
        guard case .refused(let overrun) = Self.judge([Self.minute(0, 70)], .requests, 60, burst: 10) else {
            Issue.record("70 of 69")
            return
        }
        #expect(overrun.used == 70 && overrun.minute == sixty[0].start && overrun.burst == 10)
        // What the first minute took is not there in the second, unless one lies between.
        let pair = [Self.minute(0, 6), Self.minute(1, 6)]
        #expect(Self.judge(pair, .requests, 10) == .unknown && Self.judge(pair, .requests, 12) == .kept)
        #expect(Self.judge([Self.minute(0, 6), Self.minute(2, 6)], .requests, 10) == .kept)
        let full = (0..<4).map { Self.minute($0, 90) }
        guard case .refused(let later) = Self.judge(full, .requests, 60, burst: 60) else {
            Issue.record("30 too many each minute")
            return
        }
        #expect(later.minute == full[1].start)
    }

    @Test("nothing is promised of a limit of keys but that all of them kept it, and nothing without all minutes")
    func conservative() {
        let many = [Self.minute(0, 500)]
        #expect(Self.judge(many, .requests, 60, scope: .key) == .unknown)
        #expect(Self.judge(many, .requests, 500, scope: .key) == .kept)
        #expect(Self.judge(many, .requests, 500, isWhole: false) == .unknown)
        #expect(Self.judge(many, .requests, nil) == .kept)
        // Counted anew when the rows of its requests were gone, and with them those of requests that failed.
        let bare = many + [Self.minute(9, 1, tokens: UsageMinute.unknownTokens)]
        #expect(Self.judge(bare, .requests, 500) == .unknown && Self.judge(bare, .concurrency, 500) == .unknown)
        guard case .refused = Self.judge(many, .requests, 60, isWhole: false) else {
            Issue.record("what is known is enough")
            return
        }
    }

    @Test("what still runs holds its slot and its tokens in the minutes after it")
    func running() {
        let long = [Self.minute(0, 5, tokens: 50, busy: 1, runs: 130_000_000), Self.minute(2, 5, tokens: 50, busy: 1)]
        #expect(Self.judge(long, .concurrency, 9) == .unknown && Self.judge(long, .concurrency, 10) == .kept)
        #expect(Self.judge(long, .tokens, 95) == .unknown && Self.judge(long, .tokens, 120) == .kept)
        let short = [Self.minute(0, 5, tokens: 50, busy: 1, runs: 1), Self.minute(2, 5, tokens: 50, busy: 1)]
        #expect(Self.judge(short, .concurrency, 5) == .kept && Self.judge(short, .tokens, 60) == .kept)
        let busy = [Self.minute(0, 9, busy: 181_000_000, runs: 60_000_000)]
        guard case .refused(let overrun) = Self.judge(busy, .concurrency, 3) else {
            Issue.record("three minutes and a second in one")
            return
        }
        #expect(overrun.used == 4 && overrun.burst == nil && Self.judge(busy, .concurrency, 4) == .unknown)
    }
}
