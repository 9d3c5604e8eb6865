import Domain
import TestSupport
import Testing

@Suite("Forecasts") struct SeasonalForecastTests {
    private let forecast = SeasonalForecast()

    private func series(_ hours: Range<Int>, _ value: (Int) -> Int64) -> HourlySeries {
        var series = HourlySeries()
        series.begin(atHour: hours.lowerBound)
        for hour in hours { series.add(value(hour), inHour: hour) }
        return series
    }

    private func week(_ seed: UInt64) -> [Int64] {
        var random = SeededRandom(seed: seed)
        return (0..<168).map { _ in Int64.random(in: 0...1_000_000, using: &random) }
    }

    @Test("constant use is told exactly, from an hour of history on", arguments: [1, 5, 167, 168, 169, 700, 2_000])
    func constant(known: Int) {
        let series = series(0..<known) { _ in 977 }
        for length in [1, 24, 168, 500, 744] {
            #expect(forecast.rest(of: series, from: known, until: known + length) == 977 * Int64(length))
        }
    }

    @Test("use that is the same in every week is told exactly, from a week of history on", arguments: 0..<20)
    func weekly(seed: UInt64) {
        var random = SeededRandom(seed: seed &+ 1_000)
        let week = week(seed)
        let known = Int.random(in: 168...1_500, using: &random)
        let end = known + Int.random(in: 1...800, using: &random)
        let value = { (hour: Int) in week[(hour % 168 + 168) % 168] }
        let real = (known..<end).reduce(Int64(0)) { $0 + value($1) }
        #expect(forecast.rest(of: series(0..<known, value), from: known, until: end) == real)
        let trials = [SeasonalForecast.Trial(hours: known - 100..<end, now: known)]
        #expect(forecast.errorBasisPoints(series(0..<end, value), trials: trials) == 0)
    }

    @Test("the mean is of the last four weeks, and what comes after now is not looked at")
    func lastFourWeeks() {
        let known = 6 * 168
        // 0, 10, 20 … in the same hour of each week.
        let value = { (hour: Int) in hour % 168 == 0 ? Int64(hour / 168 * 10) : 0 }
        var series = series(0..<known, value)
        #expect(forecast.rest(of: series, from: known, until: known + 1) == (20 + 30 + 40 + 50) / 4)
        series.add(1_000_000, inHour: known)
        series.add(1_000_000, inHour: known + 168)
        #expect(forecast.rest(of: series, from: known, until: known + 1) == 35)
        // The week after next is told by the same four.
        #expect(forecast.rest(of: series, from: known, until: known + 169) == 70)
    }

    @Test("of the hour that is running only its rest is told")
    func partOfAnHour() {
        let series = series(0..<400) { _ in 1_000 }
        let quarter = SeasonalForecast.hourMicroseconds / 4
        #expect(forecast.rest(of: series, from: 400, until: 401, elapsedMicroseconds: quarter) == 750)
        #expect(forecast.rest(of: series, from: 400, until: 403, elapsedMicroseconds: quarter) == 2_750)
    }

    @Test("nothing known tells nothing, and nothing is left of a period that is over")
    func nothing() {
        #expect(forecast.rest(of: HourlySeries(), from: 0, until: 100) == 0)
        #expect(forecast.rest(of: series(0..<9) { _ in 5 }, from: 9, until: 9) == 0)
        let trial = SeasonalForecast.Trial(hours: 0..<10, now: 5)
        #expect(forecast.errorBasisPoints(HourlySeries(), trials: [trial]) == nil)
        #expect(forecast.errorBasisPoints(series(7..<10) { _ in 5 }, trials: [trial]) == nil)
    }

    @Test("the error is what was told too much and too little by what it was")
    func error() {
        #expect(SeasonalForecast.errorBasisPoints([(110, 100), (80, 100)]) == 1_500)
        #expect(SeasonalForecast.errorBasisPoints([(5, 0)]) == nil)
        // A step: the run rate of the first half tells the second half as it was before.
        let stepped = series(0..<100) { $0 < 50 ? 10 : 30 }
        let trial = SeasonalForecast.Trial(hours: 0..<100, now: 50)
        #expect(forecast.errorBasisPoints(stepped, trials: [trial]) == 5_000)
    }
}
