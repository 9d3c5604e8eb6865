internal import Domain

/// Works out what is left to a tenant that pays ahead.
///
/// Its open stretches, those that the run is still to invoice, are rated by their months. Their cost, less what later invoices charge of it
/// already, is paid by the credits that were valid at the time, as the invoice will have it (``CreditBurn``). The balance is what is left then
/// of the grants that are valid now, less what nothing paid, less what invoiced months have come to since. Base fees count in full from where
/// they begin, the minimum on the invoice only.
struct PrepaidBalancing {
    /// The months that are looked at, the running one among them.
    private static let monthLimit: Int64 = 24
    /// Far beyond any bill, and so that differences of two fit.
    private static let amounts = (Int64.min / 8)...(Int64.max / 8)

    let bill: any BalanceReading
    /// Of an earlier look behind which no invoiced period has changed.
    var before: BalanceFinding?

    func find() async throws -> BalanceFinding? {
        guard let currency = try await bill.currency() else { return nil }
        let calendar = PeriodCalendar(timeZone: bill.account.timeZone) ?? .utc
        let current = calendar.period(containing: bill.now, frequency: .month)
        let stretches = try await bill.unbilled(currency, from: firstMonth(current, calendar), to: current.end)
        var sources = try await bill.credits(currency)
        var unpaid: Int64 = 0
        for part in parts(of: stretches, calendar) {
            try unpaid.add(try await pay(part, currency, &sources))
        }
        let late: Int64
        if let before, before.balance.currency == currency {
            late = before.late.value
        } else {
            late = try await self.late(currency)
        }
        var balance: Int64 = 0
        for source in sources where source.covers(bill.now) { try balance.add(source.remaining.value) }
        try balance.subtract(unpaid)
        try balance.subtract(late)
        return BalanceFinding(
            balance: PrepaidBalance(currency: currency, amount: Micros(balance), lookedAt: bill.now),
            late: Micros(late), openSince: stretches.last?.start)
    }

    // MARK: Open months

    /// A stretch inside of one month; fees are shared out over the whole of that.
    private struct Part {
        let month: Period
        let start: Timestamp
        let end: Timestamp
    }

    private func firstMonth(_ current: Period, _ calendar: PeriodCalendar) -> Timestamp {
        var first = current
        for _ in 1..<Self.monthLimit {
            first = calendar.period(
                containing: Timestamp(microsecondsSince1970: first.start.microsecondsSince1970 - 1), frequency: .month)
        }
        return first.start
    }

    private func parts(of stretches: [BalanceStretch], _ calendar: PeriodCalendar) -> [Part] {
        var parts: [Part] = []
        for stretch in stretches {
            var start = stretch.start
            while start < stretch.end {
                let month = calendar.period(containing: start, frequency: .month)
                parts.append(Part(month: month, start: start, end: min(month.end, stretch.end)))
                start = month.end
            }
        }
        return parts
    }

    /// Takes what a part costs from the credits that were valid in it.
    /// - Returns: what they left unpaid; below zero where corrections made the part worth less than nothing.
    private func pay(_ part: Part, _ currency: String, _ sources: inout [CreditSource]) async throws -> Int64 {
        let whole = try await bill.reading(from: part.start, to: part.end).input.of(currency)
        let total = try rate(part.month, whole)
        var open = total.value
        try open.subtract(try await billed(part, currency))
        guard open > 0, !sources.isEmpty else { return open }
        let burn = CreditBurn(period: part.month)
        let cuts = burn.cuts(sources)
        var totals: [Micros] = []
        for cut in cuts.dropFirst().dropLast() {
            totals.append(try await self.total(part, whole, upTo: cut, total, currency))
        }
        var paid: [CreditGrantID: Int64] = [:]
        var sum: Int64 = 0
        for application in burn.burn(totals: totals + [Micros(open)], cuts: cuts, sources: sources) {
            paid[application.grantID] = application.amount.value
            try sum.add(application.amount.value)
        }
        sources = sources.map { $0.less(paid[$0.grantID] ?? 0) }
        try open.subtract(sum)
        return open
    }

    /// What standing invoices of later months charge of a part: its own was void by then, or there was none.
    private func billed(_ part: Part, _ currency: String) async throws -> Int64 {
        let billed = try await bill.billed(Period(start: part.start, end: part.end, id: part.month.id))
        var sum: Int64 = 0
        for line in billed.lines where line.tierVersionID.flatMap({ billed.currencies[$0] }) == currency {
            try sum.add(line.amount.value)
        }
        guard Self.amounts.contains(sum) else { throw RatingFailure.amountTooLarge.refusal }
        return sum
    }

    private func total(
        _ part: Part, _ whole: RatingInput, upTo cut: Timestamp, _ total: Micros, _ currency: String
    ) async throws -> Micros {
        guard cut > part.start else { return .zero }
        // Nothing is used in what is to come.
        guard cut < part.end, cut <= bill.now else { return total }
        let used = try await bill.reading(from: part.start, to: cut).input.of(currency)
        return try rate(
            part.month,
            RatingInput(
                spans: whole.spans.filter { $0.start < cut }, usage: used.usage,
                terms: whole.terms.merging(used.terms) { old, _ in old }))
    }

    private func rate(_ month: Period, _ input: RatingInput) throws(Refusal) -> Micros {
        try rate(Rating(period: month), input, input.terms.mapValues(\.withoutMinimum))
    }

    private func rate(
        _ rating: Rating, _ input: RatingInput, _ terms: [TierVersionID: TierTerms]
    ) throws(Refusal) -> Micros {
        do throws(RatingFailure) {
            let total = try rating.rate(spans: input.spans, terms: terms, usage: input.usage).subtotal
            guard Self.amounts.contains(total.value) else { throw .amountTooLarge }
            return total
        } catch {
            throw error.refusal
        }
    }

    // MARK: Late usage

    private func late(_ currency: String) async throws -> Int64 {
        var late: Int64 = 0
        for stretch in try await bill.late(currency, limit: NewAdjustment.periodLimit) {
            // The month is the one that its invoice was rated by, whatever the zone is now.
            guard let period = BillingPeriod(start: stretch.start, end: stretch.end, timeZone: stretch.timeZone) else {
                continue
            }
            let input = try await bill.reading(from: stretch.start, to: stretch.end).input.of(currency)
            let rating = Rating(period: period.period, month: period.month)
            try late.add(try rate(rating, input, input.terms).value)
            try late.subtract(stretch.billed.value)
        }
        return late
    }
}

extension Int64 {
    fileprivate mutating func add(_ other: Int64) throws(Refusal) {
        let (sum, overflow) = addingReportingOverflow(other)
        guard !overflow else { throw RatingFailure.amountTooLarge.refusal }
        self = sum
    }

    fileprivate mutating func subtract(_ other: Int64) throws(Refusal) {
        let (difference, overflow) = subtractingReportingOverflow(other)
        guard !overflow else { throw RatingFailure.amountTooLarge.refusal }
        self = difference
    }
}

extension CreditSource {
    fileprivate func covers(_ instant: Timestamp) -> Bool {
        effectiveAt <= instant && expiresAt.map { instant < $0 } ?? true
    }

    fileprivate func less(_ amount: Int64) -> CreditSource {
        CreditSource(
            grantID: grantID, remaining: Micros(remaining.value - amount), priority: priority, effectiveAt: effectiveAt,
            expiresAt: expiresAt)
    }
}

extension RatingInput {
    /// What is charged in a currency; what is in another one has a bill of its own.
    fileprivate func of(_ currency: String) -> RatingInput {
        RatingInput(
            spans: spans.filter { terms[$0.tierVersionID]?.currency == currency },
            usage: usage.filter { terms[$0.tierVersionID]?.currency == currency }, terms: terms)
    }
}

extension TierTerms {
    fileprivate var withoutMinimum: TierTerms {
        TierTerms(
            tierVersionID: tierVersionID, tierCode: tierCode, version: version, currency: currency, baseFee: baseFee,
            includedRequests: includedRequests, includedTokens: includedTokens, rules: rules, multipliers: multipliers)
    }
}
