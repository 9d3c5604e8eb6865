public import Domain

/// What a period will come to at its end, in usage and cost, and how far off the same method would have been in the periods before.
public struct PeriodForecast: Hashable, Sendable {
    /// Quantities of a period.
    public struct Quantities: Hashable, Sendable {
        public var requests: Int64 = 0
        public var inputTokens: Int64 = 0
        public var cachedInputTokens: Int64 = 0
        public var outputTokens: Int64 = 0

        /// Input and output together.
        public var tokens: Int64 { Int64(clamping: Int128(inputTokens) + Int128(outputTokens)) }
    }

    public let soFar: Quantities
    public let atEnd: Quantities
    /// Before credits; `nil` where the period has neither a subscription nor usage.
    public let costAtEnd: Micros?
    /// Weighted absolute percentage errors over the closed periods, in basis points; `nil` where there is none to compare with.
    public let requestErrorBasisPoints: Int64?
    public let tokenErrorBasisPoints: Int64?
    /// Both the told and the real usage are rated by today's terms: of the cost only what comes from usage is uncertain.
    public let costErrorBasisPoints: Int64?
    /// How many closed periods were compared.
    public let comparedPeriods: Int
}

/// Tells the end of a period from its usage so far and the hours before (``SeasonalForecast``).
public struct PeriodForecaster: Sendable {
    /// Closed periods that the method is tried on.
    public static let trialLimit = 3

    public let period: Period
    /// The closed periods before, the latest first.
    public let earlier: [Period]
    public let now: Timestamp

    /// - Parameter calendar: of the tenant, whose months its periods are.
    public init(at now: Timestamp, calendar: PeriodCalendar) {
        self.now = now
        period = calendar.period(containing: now, frequency: .month)
        var earlier: [Period] = []
        var next = period
        for _ in 0..<Self.trialLimit {
            let before = next.start.advanced(byMilliseconds: -1)
            next = calendar.period(containing: before, frequency: .month)
            earlier.append(next)
        }
        self.earlier = earlier
    }

    /// From where the hours are needed: the trials' own weeks before among them. Hours are numbered from here.
    public var historyStart: Timestamp {
        let weeks = Int64(SeasonalForecast.seasons * SeasonalForecast.season) * 3_600_000
        return (earlier.last ?? period).start.advanced(byMilliseconds: -weeks)
    }

    private func hour(_ instant: Timestamp) -> Int {
        Int((instant.microsecondsSince1970 - historyStart.microsecondsSince1970) / SeasonalForecast.hourMicroseconds)
    }

    /// - Parameters:
    ///   - hours: what was used from ``historyStart`` until now.
    ///   - input: of ``period``.
    /// - Throws: why the usage cannot be rated.
    public func forecast(_ hours: [HourlyUsage], input: RatingInput) throws(RatingFailure) -> PeriodForecast {
        let series = ModelSeries(hours.filter { $0.hour <= hour(now) })
        let current = hour(now)
        let elapsed =
            (now.microsecondsSince1970 - historyStart.microsecondsSince1970) % SeasonalForecast.hourMicroseconds
        let soFar = input.usage.reduce(into: PeriodForecast.Quantities()) { $0.add($1) }
        var usage = input.usage
        if let span = input.spans.last {
            usage += series.rest(
                from: current, until: hour(period.end), elapsedMicroseconds: elapsed, version: span.tierVersionID,
                isTrial: span.isTrial)
        }
        let atEnd = usage.reduce(into: PeriodForecast.Quantities()) { $0.add($1) }
        let rated = try Rating(period: period).rate(spans: input.spans, terms: input.terms, usage: usage)
        let trials = trials(series)
        let requests = SeasonalForecast().errorBasisPoints(series.requests, trials: trials.map(\.trial))
        let tokens = SeasonalForecast().errorBasisPoints(series.tokens, trials: trials.map(\.trial))
        return PeriodForecast(
            soFar: soFar, atEnd: atEnd, costAtEnd: rated.currency == nil ? nil : rated.subtotal,
            requestErrorBasisPoints: requests, tokenErrorBasisPoints: tokens,
            costErrorBasisPoints: try costError(series, trials, input), comparedPeriods: trials.count)
    }

    /// Each closed period of which something was known at the same point of it.
    private func trials(_ series: ModelSeries) -> [(period: Period, trial: SeasonalForecast.Trial)] {
        let elapsedHours = hour(now) - hour(period.start)
        return earlier.compactMap { period in
            let hours = hour(period.start)..<hour(period.end)
            let point = min(hours.lowerBound + elapsedHours, hours.upperBound)
            guard let first = series.requests.first, first < point else { return nil }
            return (period, SeasonalForecast.Trial(hours: hours, now: point))
        }
    }

    private func costError(
        _ series: ModelSeries, _ trials: [(period: Period, trial: SeasonalForecast.Trial)], _ input: RatingInput
    ) throws(RatingFailure) -> Int64? {
        guard let version = input.spans.last(where: { !$0.isTrial })?.tierVersionID else { return nil }
        var totals: [(told: Int64, real: Int64)] = []
        for (period, trial) in trials {
            let span = SubscriptionSpan(tierVersionID: version, start: period.start, end: period.end)
            let known = series.quantities(trial.hours.lowerBound..<trial.now, version: version)
            let rest = series.known(before: trial.now).rest(
                from: trial.now, until: trial.hours.upperBound, elapsedMicroseconds: 0, version: version, isTrial: false
            )
            let rating = Rating(period: period)
            let told = try rating.rate(spans: [span], terms: input.terms, usage: known + rest)
            let real = try rating.rate(
                spans: [span], terms: input.terms, usage: series.quantities(trial.hours, version: version))
            totals.append((told.subtotal.value, real.subtotal.value))
        }
        return SeasonalForecast.errorBasisPoints(totals)
    }
}

extension PeriodForecast.Quantities {
    fileprivate mutating func add(_ part: UsageQuantity) {
        requests = Self.sum(requests, part.requests)
        inputTokens = Self.sum(inputTokens, part.inputTokens)
        cachedInputTokens = Self.sum(cachedInputTokens, part.cachedInputTokens)
        outputTokens = Self.sum(outputTokens, part.outputTokens)
    }

    /// A forecast must not be able to end the process.
    private static func sum(_ left: Int64, _ right: Int64) -> Int64 {
        let (sum, overflow) = left.addingReportingOverflow(right)
        return overflow ? (left < 0 ? .min : .max) : sum
    }
}

/// The hours of each model, of each of its quantities.
private struct ModelSeries {
    private struct Quantities {
        var requests = HourlySeries()
        var input = HourlySeries()
        var cached = HourlySeries()
        var output = HourlySeries()
    }

    private let hours: [HourlyUsage]
    private var models: [String: Quantities] = [:]
    /// Of all models together.
    private(set) var requests = HourlySeries()
    private(set) var tokens = HourlySeries()

    init(_ hours: [HourlyUsage]) {
        self.hours = hours
        for hour in hours {
            models[hour.model, default: Quantities()].requests.add(hour.requests, inHour: hour.hour)
            models[hour.model, default: Quantities()].input.add(hour.inputTokens, inHour: hour.hour)
            models[hour.model, default: Quantities()].cached.add(hour.cachedInputTokens, inHour: hour.hour)
            models[hour.model, default: Quantities()].output.add(hour.outputTokens, inHour: hour.hour)
            requests.add(hour.requests, inHour: hour.hour)
            tokens.add(hour.inputTokens, inHour: hour.hour)
            tokens.add(hour.outputTokens, inHour: hour.hour)
        }
        // A model that came later was not used before, which is known.
        guard let first = requests.first else { return }
        for model in models.keys {
            models[model]?.requests.begin(atHour: first)
            models[model]?.input.begin(atHour: first)
            models[model]?.cached.begin(atHour: first)
            models[model]?.output.begin(atHour: first)
        }
    }

    func known(before hour: Int) -> ModelSeries { ModelSeries(hours.filter { $0.hour < hour }) }

    func quantities(_ range: Range<Int>, version: TierVersionID) -> [UsageQuantity] {
        models.sorted { $0.key < $1.key }.map { model, series in
            UsageQuantity(
                tierVersionID: version, model: model, requests: Int64(clamping: series.requests.sum(range)),
                inputTokens: Int64(clamping: series.input.sum(range)),
                cachedInputTokens: Int64(clamping: series.cached.sum(range)),
                outputTokens: Int64(clamping: series.output.sum(range)))
        }
    }

    func rest(
        from now: Int, until end: Int, elapsedMicroseconds: Int64, version: TierVersionID, isTrial: Bool
    ) -> [UsageQuantity] {
        let forecast = SeasonalForecast()
        func told(_ series: HourlySeries) -> Int64 {
            forecast.rest(of: series, from: now, until: end, elapsedMicroseconds: elapsedMicroseconds)
        }
        return models.sorted { $0.key < $1.key }.map { model, series in
            UsageQuantity(
                tierVersionID: version, isTrial: isTrial, model: model, requests: told(series.requests),
                inputTokens: told(series.input), cachedInputTokens: told(series.cached),
                outputTokens: told(series.output))
        }
    }
}
