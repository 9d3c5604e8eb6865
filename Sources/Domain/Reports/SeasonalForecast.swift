/// Tells what will be used in hours to come from what was used in the same hours of the weeks before: the mean of the last four of them that are
/// known, or as many as there are. Where not even one is known, the run rate since the first known hour takes its place.
///
/// Whole numbers, rounded once, half to even. Usage that is constant, or the same in every week, is told exactly. There is no trend: over the few
/// weeks of a billing period one would be mostly noise, and what the method is worth is told beside it (``errorBasisPoints(_:trials:)``).
public struct SeasonalForecast: Sendable {
    /// Hours of a week. Of a local week with a change of clocks it is an hour more or less, which shifts one week against the next by an hour.
    public static let season = 168
    /// Weeks that are looked back on.
    public static let seasons = 4
    public static let hourMicroseconds: Int64 = 3_600_000_000

    /// A stretch of hours of which one part was known and the rest was not.
    public struct Trial: Hashable, Sendable {
        public let hours: Range<Int>
        /// The first hour that is not known; in `hours` or at its end.
        public let now: Int

        public init(hours: Range<Int>, now: Int) {
            self.hours = hours
            self.now = now
        }
    }

    public init() {}

    /// What will be used from `now` until the hour `end` begins. Only hours before `now` are looked at.
    /// - Parameter elapsedMicroseconds: how much of the hour `now` is over; of it only the rest is told.
    public func rest(of series: HourlySeries, from now: Int, until end: Int, elapsedMicroseconds: Int64 = 0) -> Int64 {
        guard let first = series.first, now < end else { return 0 }
        let hour = Int128(Self.hourMicroseconds)
        // In twelfths of a unit, by which means of one to four are whole, times a microsecond.
        var seasonal: Int128 = 0
        var unknown: Int128 = 0
        for number in now..<end {
            let weight = number == now ? hour - Int128(elapsedMicroseconds) : hour
            if let mean = meanTwelfths(series, hour: number, before: now, first: first) {
                seasonal += mean * weight
            } else {
                unknown += weight
            }
        }
        let known = Int128(now - first)
        var total = dividedHalfToEven(seasonal, by: 12 * hour)
        if unknown > 0, known > 0 {
            total += dividedHalfToEven(series.sum(first..<now) * unknown, by: known * hour)
        }
        return Int64(clamping: total)
    }

    private func meanTwelfths(_ series: HourlySeries, hour: Int, before now: Int, first: Int) -> Int128? {
        var sum: Int128 = 0
        var count: Int128 = 0
        var candidate = hour - Self.season * max(1, (hour - now) / Self.season + 1)
        while candidate >= first, count < Int128(Self.seasons) {
            sum += Int128(series[candidate])
            count += 1
            candidate -= Self.season
        }
        return count == 0 ? nil : sum * 12 / count
    }

    /// The weighted absolute percentage error of the totals that this method would have told: the sum of how far they were off, by the sum of
    /// what it really was, in basis points.
    /// - Returns: `nil` where nothing was used in the trials, or nothing was known at any of their points.
    public func errorBasisPoints(_ series: HourlySeries, trials: [Trial]) -> Int64? {
        var told: [(told: Int64, real: Int64)] = []
        for trial in trials {
            guard let first = series.first, first < trial.now else { continue }
            let real = Int64(clamping: series.sum(trial.hours))
            let before = Int64(clamping: series.sum(trial.hours.lowerBound..<trial.now))
            told.append((before + rest(of: series, from: trial.now, until: trial.hours.upperBound), real))
        }
        return Self.errorBasisPoints(told)
    }

    /// The same from totals that were told, and what they really were.
    public static func errorBasisPoints(_ totals: [(told: Int64, real: Int64)]) -> Int64? {
        let real = totals.reduce(Int128(0)) { $0 + Int128($1.real) }
        guard real > 0 else { return nil }
        let off = totals.reduce(Int128(0)) { $0 + Int128((Int128($1.told) - Int128($1.real)).magnitude) }
        return Int64(clamping: dividedHalfToEven(off * 10_000, by: real))
    }
}
