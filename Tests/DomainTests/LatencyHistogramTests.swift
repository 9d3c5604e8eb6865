import Domain
import TestSupport
import Testing

@Suite("Classes of times") struct LatencyHistogramTests {
    @Test("classes follow one another without a gap, and none is wider than an eighth of its lower end")
    func classesTile() {
        var lower: Int64 = 0
        for index in 0..<LatencyHistogram.classCount {
            let last = LatencyHistogram.lastMicrosecond(ofClass: index)
            #expect(LatencyHistogram.index(ofMicroseconds: lower) == index)
            #expect(LatencyHistogram.index(ofMicroseconds: last) == index)
            #expect((last - lower) * 8 < max(lower, 1) || last == lower)
            lower = last + 1
        }
        #expect(lower == 1 << 40)
        #expect(LatencyHistogram.index(ofMicroseconds: .max) == LatencyHistogram.classCount - 1)
        #expect(LatencyHistogram.index(ofMicroseconds: -5) == 0)
    }

    @Test("a quantile is never below the true one, and less than its declared error above", arguments: 0..<40)
    func quantiles(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let times = (0..<Int.random(in: 1...400, using: &random)).map { _ in
            Int64.random(in: 0...(1 << Int64.random(in: 1...36, using: &random)), using: &random)
        }.sorted()
        var histogram = LatencyHistogram()
        for time in times { histogram.add(1, ofClass: LatencyHistogram.index(ofMicroseconds: time)) }
        for permille in [500, 950, 990, 1_000] as [Int64] {
            let rank = (times.count * Int(permille) + 999) / 1_000
            let exact = times[max(0, rank - 1)]
            let told = try #require(histogram.quantile(permille: permille))
            #expect(told >= exact)
            #expect((told - exact) * 10_000 <= exact * LatencyHistogram.errorBasisPoints)
        }
    }

    @Test("without requests there is no quantile")
    func empty() {
        #expect(LatencyHistogram().quantile(permille: 500) == nil)
    }
}
