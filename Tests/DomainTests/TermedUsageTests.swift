import TestSupport
import Testing

@testable import Domain

/// What other terms would have charged of hits and of left streams, against charging each of them.
@Suite("Usage under other terms")
struct TermedUsageTests {
    private static let version = TierVersionID(high: 0, low: 1)

    private static func terms(
        _ number: UInt64, percent: Int64 = 100, leave: StreamLeave? = nil, cachedPrice: Int64 = 5,
        requestTerms: RequestTerms = .standard
    ) -> TierTerms {
        TierTerms(
            tierVersionID: TierVersionID(high: 0, low: number), tierCode: "t", version: Int32(number), currency: "EUR",
            rules: [
                PriceRule(meter: .inputToken, model: "*", price: .flat(UnitPrice(picos: 5))),
                PriceRule(meter: .cachedInputToken, model: "*", price: .flat(UnitPrice(picos: cachedPrice))),
            ], cacheHitTokenPercent: percent, streamLeave: leave, requestTerms: requestTerms)
    }

    private static func sum(_ counts: [Usage]) -> (input: Int64, cached: Int64, output: Int64) {
        (
            counts.reduce(0) { $0 + $1.inputTokens }, counts.reduce(0) { $0 + $1.cachedInputTokens },
            counts.reduce(0) { $0 + $1.outputTokens }
        )
    }

    private static func input(_ usage: UsageQuantity, _ old: TierTerms) -> RatingInput {
        RatingInput(spans: [], usage: [usage], terms: [old.tierVersionID: old])
    }

    @Test("hits are charged as the other percentage would have, to within a token for each of them and never less")
    func hits() throws {
        var random = SeededRandom(seed: 77)
        for _ in 0..<3_000 {
            let percents = [0, 1, 10, 33, 50, 99, 100, Int64.random(in: 0...100, using: &random)]
            let (from, to) = (percents.randomElement(using: &random) ?? 0, percents.randomElement(using: &random) ?? 0)
            let served = (0..<Int.random(in: 0...20, using: &random)).map { _ in
                let input = Int64.random(in: 0...90, using: &random)
                return Usage(
                    inputTokens: input, cachedInputTokens: .random(in: 0...input, using: &random),
                    outputTokens: .random(in: 0...400, using: &random), source: .worker)
            }
            let all = Self.sum(served)
            let old = Self.sum(served.map { $0.chargedForHit(percent: from) })
            let new = Self.sum(served.map { $0.chargedForHit(percent: to) })
            let hits = Int64(served.count)
            let usage = UsageQuantity(
                tierVersionID: Self.version, model: "m", requests: hits + 3, inputTokens: old.input + 1_000,
                cachedInputTokens: old.cached + 100, outputTokens: old.output + 10,
                termed: TermedUsage(
                    hits: hits, servedInputTokens: all.input, servedOutputTokens: all.output,
                    hitInputTokens: old.input, hitCachedInputTokens: old.cached, hitOutputTokens: old.output))
            let (before, after) = (Self.terms(1, percent: from), Self.terms(2, percent: to))
            let moved = try #require(
                Self.input(usage, before).moved(to: after, from: { _ in true }).usage.first)
            #expect(moved.requests == hits + 3 && moved.tierVersionID == after.tierVersionID)
            if from == to {
                #expect(moved.inputTokens == usage.inputTokens && moved.cachedInputTokens == usage.cachedInputTokens)
                #expect(moved.outputTokens == usage.outputTokens && moved.termed == usage.termed)
                continue
            }
            let isExact = to == 0 || to == 100
            #expect((0...(isExact ? 0 : hits)).contains(moved.inputTokens - 1_000 - new.input))
            #expect((0...(isExact ? 0 : hits)).contains(moved.outputTokens - 10 - new.output))
            let cached = moved.cachedInputTokens - 100 - new.cached
            if from == 100 { #expect((0...(isExact ? 0 : hits)).contains(cached)) }
            if from > 0 { #expect((-(hits * to / from + 1)...hits).contains(cached)) }
            #expect(moved.cachedInputTokens <= moved.inputTokens)
            #expect(Self.input(usage, before).reratedHits(by: after, from: { _ in true }) == hits)
        }
    }

    @Test("a version that is not meant, and one with the same terms, move nothing")
    func untouched() {
        let usage = UsageQuantity(
            tierVersionID: Self.version, model: "m", requests: 1, inputTokens: 5, outputTokens: 5,
            termed: TermedUsage(
                hits: 1, servedInputTokens: 10, servedOutputTokens: 10, hitInputTokens: 5, hitOutputTokens: 5))
        let input = Self.input(usage, Self.terms(1, percent: 50))
        let all = Self.terms(2, percent: 100)
        #expect(input.moved(to: all, from: { _ in false }).usage == [usage])
        #expect(input.reratedHits(by: all, from: { _ in false }) == 0)
        #expect(input.reratedHits(by: Self.terms(2, percent: 50), from: { _ in true }) == 0)
        #expect(input.moved(to: all, from: { _ in true }).usage.map(\.inputTokens) == [10])
    }

    @Test("a hit counts as a request or not, as the version says; that a refused input costs otherwise is not known")
    func requests() {
        let hits = TermedUsage(hits: 4, servedInputTokens: 8, hitInputTokens: 8)
        func moved(_ requests: Int64, _ old: RequestTerms, _ new: RequestTerms) -> (Int64?, Set<UnseenTerm>) {
            let usage = UsageQuantity(
                tierVersionID: Self.version, model: "m", requests: requests, inputTokens: 50, outputTokens: 0,
                termed: hits)
            let input = Self.input(usage, Self.terms(1, requestTerms: old))
            let new = Self.terms(2, requestTerms: new)
            return (
                input.moved(to: new, from: { _ in true }).usage.first?.requests, input.unseen(by: new) { _ in true }
            )
        }
        let free = RequestTerms(cacheHit: .free)
        #expect(moved(10, .standard, free) == (6, []) && moved(6, free, .standard) == (10, []))
        #expect(moved(6, free, free) == (6, []) && moved(10, .standard, .standard) == (10, []))
        let failures = RequestTerms(failure: .charged)
        #expect(moved(10, .standard, failures) == (10, [.failedRequest]))
        #expect(moved(10, failures, .standard) == (10, [.failedRequest]) && moved(10, failures, failures) == (10, []))
    }

    @Test("from draining to cancelling each left stream is charged what was delivered, exactly")
    func drained() throws {
        var random = SeededRandom(seed: 5)
        for _ in 0..<2_000 {
            var (charged, cancelled, streams) = (Int64(0), Int64(0), TermedUsage.none)
            for _ in 0..<Int.random(in: 0...9, using: &random) {
                let delivered = Int64.random(in: 1...50, using: &random)
                let (generated, room) = (
                    delivered + .random(in: 0...50, using: &random), Int64.random(in: 1...120, using: &random)
                )
                let (drain, cancel) = (min(generated, room), min(delivered, room))
                charged += drain
                cancelled += cancel
                // As the roll-up tells them.
                let isDrained = drain > delivered && (drain == generated || drain == room)
                streams = TermedUsage(
                    leftStreams: streams.leftStreams + 1, drainedStreams: streams.drainedStreams + (isDrained ? 1 : 0),
                    drainedOutputTokens: streams.drainedOutputTokens + (isDrained ? drain : 0),
                    drainedDeliveredTokens: streams.drainedDeliveredTokens + (isDrained ? delivered : 0))
            }
            let usage = UsageQuantity(
                tierVersionID: Self.version, model: "m", requests: 20, inputTokens: 0, outputTokens: charged + 7,
                termed: streams)
            let input = Self.input(usage, Self.terms(1, leave: .drain))
            let cancel = Self.terms(2, leave: .cancel)
            #expect(input.moved(to: cancel, from: { _ in true }).usage.map(\.outputTokens) == [cancelled + 7])
            #expect(input.unseen(by: cancel, from: { _ in true }).isEmpty)
            #expect(
                input.moved(to: Self.terms(2, leave: .drain), from: { _ in true }).usage.map(\.outputTokens) == [
                    charged + 7
                ])
        }
    }

    @Test("what is not known is named, and only where there was some of it")
    func unseen() {
        func unseen(
            _ termed: TermedUsage, _ old: TierTerms, _ new: TierTerms, isTrial: Bool = false
        ) -> Set<UnseenTerm> {
            let usage = UsageQuantity(
                tierVersionID: Self.version, isTrial: isTrial, model: "m", requests: 9, inputTokens: 90,
                outputTokens: 90,
                termed: termed)
            return Self.input(usage, old).unseen(by: new, from: { _ in true })
        }
        let left = TermedUsage(leftStreams: 2, drainedStreams: 1, drainedOutputTokens: 9, drainedDeliveredTokens: 4)
        let drained = TermedUsage(leftStreams: 1, drainedStreams: 1, drainedOutputTokens: 9, drainedDeliveredTokens: 4)
        let (open, cancel, drain) = (Self.terms(1), Self.terms(1, leave: .cancel), Self.terms(1, leave: .drain))
        #expect(unseen(left, cancel, drain) == [.streamLeave] && unseen(left, drain, open) == [.streamLeave])
        #expect(unseen(left, cancel, drain, isTrial: true) == [])
        #expect(unseen(left, drain, cancel) == [] && unseen(left, open, cancel) == [] && unseen(left, open, open) == [])
        #expect(unseen(.none, cancel, drain) == [] && unseen(.none, drain, open) == [])
        // What the model drained would have been drained by the tier's word too.
        #expect(unseen(drained, open, drain) == [] && unseen(left, open, drain) == [.streamLeave])
        let free = TermedUsage(hits: 1, servedInputTokens: 10, servedOutputTokens: 10)
        let (none, half) = (Self.terms(1, percent: 0), Self.terms(2, percent: 50))
        #expect(unseen(free, none, half) == [] && unseen(free, half, none) == [])
        let apart = Self.terms(2, percent: 50, cachedPrice: 1)
        #expect(unseen(free, none, apart) == [.cacheHitTokenPercent] && unseen(.none, none, apart) == [])
        #expect(unseen(free, Self.terms(1, percent: 10), apart) == [])
    }
}
