internal import Domain

/// Makes what an invoice of a period says from what it follows from: the period's rating, what earlier periods have become since they were
/// invoiced, and the credits that pay for it.
struct InvoiceComposer: Sendable {
    /// How many invoiced periods are looked at for late usage. What comes later than that is for a credit note or an adjustment.
    private static let lateLimit = 24

    /// Whether the minimum counts; it does on every invoice, and not in a balance of an open month.
    var countsMinimum = true

    func compose(_ bill: any BillReading, _ period: Period) async throws -> InvoiceDraft? {
        let reading = try await bill.reading(from: period.start, to: period.end)
        let rated = try Self.rate(period, countsMinimum ? reading.input : reading.input.withoutMinimum)
        let elsewhere = try await bill.billed(period)
        let names = LineNames(terms: reading.input.terms)
        var lines = rated.lines.map { names.line($0) }
        // Late usage of this very period can stand on a later invoice, where the one of the period was void by then.
        lines += Self.difference(from: elsewhere.lines, to: [], period, names, "Invoiced before")
        var usage = Self.used(period.start, reading, elsewhere)
        var currency = rated.currency
        for billed in try await bill.billed(before: period.start, limit: Self.lateLimit) {
            guard let late = try await self.late(bill, billed), !late.usage.isEmpty else { continue }
            // A bill has one currency; what is late in another one waits for a bill of that.
            guard currency == nil || late.currency == nil || currency == late.currency else { continue }
            currency = currency ?? late.currency
            lines += late.lines
            usage += late.usage
        }
        guard let currency, !lines.isEmpty || !usage.isEmpty || !reading.input.spans.isEmpty else { return nil }
        var sum = try Self.sum(lines)
        let givenBack = Micros(max(0, -sum.value))
        if givenBack > .zero {
            lines.append(
                InvoiceLine(
                    kind: .carriedCredit, description: "Given back as a credit", start: period.start, end: period.end,
                    amount: givenBack))
            sum = .zero
        }
        let credits = try await self.credits(bill, period, reading.input, subtotal: sum, currency)
        return InvoiceDraft(
            currency: currency, lines: lines, subtotal: sum, credits: credits, usage: usage, givenBack: givenBack)
    }

    // MARK: Late usage

    private struct Late {
        let currency: String?
        let lines: [InvoiceLine]
        let usage: [InvoiceDraft.UsedIn]
    }

    /// What a period costs now, less what was invoiced for it; `nil` where nothing was used in it since.
    private func late(_ bill: any BillReading, _ billed: BilledPeriod) async throws -> Late? {
        guard let calendar = PeriodCalendar(timeZone: billed.timeZone) else { return nil }
        let period = calendar.period(containing: billed.start, frequency: .month)
        let reading = try await bill.reading(from: period.start, to: period.end)
        let usage = Self.used(period.start, reading, billed)
        guard !usage.isEmpty else { return nil }
        let rated = try Self.rate(period, reading.input)
        let names = LineNames(terms: reading.input.terms)
        let lines = Self.difference(
            from: billed.lines, to: rated.lines.map { names.line($0) }, period, names,
            "Late usage of \(period.id.prefix { $0 != "@" })")
        return Late(currency: rated.currency, lines: lines, usage: usage)
    }

    /// The quantities that no standing invoice charges yet; negative where there was a correction.
    private static func used(
        _ start: Timestamp, _ reading: BillingReading, _ billed: BilledPeriod
    ) -> [InvoiceDraft.UsedIn] {
        struct Key: Hashable {
            let version: TierVersionID
            let isTrial: Bool
            let model: String
        }
        var sums: [Key: [Int64]] = [:]
        var order: [Key] = []
        for (part, sign) in reading.input.usage.map({ ($0, Int64(1)) }) + billed.usage.map({ ($0, Int64(-1)) }) {
            let key = Key(version: part.tierVersionID, isTrial: part.isTrial, model: part.model)
            if sums[key] == nil { order.append(key) }
            let numbers = [part.requests, part.inputTokens, part.cachedInputTokens, part.outputTokens]
            sums[key] = zip(sums[key] ?? [0, 0, 0, 0], numbers).map { $0 + sign * $1 }
        }
        return order.compactMap { key in
            guard let sum = sums[key], sum.contains(where: { $0 != 0 }) else { return nil }
            return InvoiceDraft.UsedIn(
                periodStart: start,
                usage: UsageQuantity(
                    tierVersionID: key.version, isTrial: key.isTrial, model: key.model, requests: sum[0],
                    inputTokens: sum[1], cachedInputTokens: sum[2], outputTokens: sum[3]),
                seen: reading.seen, seenBefore: billed.seen)
        }
    }

    /// One line for each tier version, model and meter whose amount or quantity differs.
    private static func difference(
        from billed: [InvoiceLine], to now: [InvoiceLine], _ period: Period, _ names: LineNames, _ title: String
    ) -> [InvoiceLine] {
        struct Key: Hashable {
            let version: TierVersionID?
            let model: String?
            let meter: Meter?
        }
        var amounts: [Key: (amount: Int64, quantity: Int128?)] = [:]
        var order: [Key] = []
        for (line, sign) in now.map({ ($0, Int64(1)) }) + billed.map({ ($0, Int64(-1)) }) where line.kind != .trial {
            let key = Key(version: line.tierVersionID, model: line.model, meter: line.meter)
            if amounts[key] == nil { order.append(key) }
            let before = amounts[key] ?? (0, nil)
            let quantity = line.quantityMillionths.map { (before.quantity ?? 0) + Int128(sign) * $0 }
            amounts[key] = (before.amount + sign * line.amount.value, quantity ?? before.quantity)
        }
        return order.compactMap { key in
            guard let sum = amounts[key], sum.amount != 0 || sum.quantity ?? 0 != 0 else { return nil }
            return InvoiceLine(
                kind: .lateUsage, tierVersionID: key.version, model: key.model, meter: key.meter,
                description: "\(title): \(names.what(key.meter, key.model))", start: period.start, end: period.end,
                quantityMillionths: sum.quantity, amount: Micros(sum.amount))
        }
    }

    // MARK: Credits

    private func credits(
        _ bill: any BillReading, _ period: Period, _ input: RatingInput, subtotal: Micros, _ currency: String
    ) async throws -> [CreditApplication] {
        guard subtotal > .zero, countsMinimum else { return [] }
        let sources = try await bill.credits(currency)
        let burn = CreditBurn(period: period)
        let cuts = burn.cuts(sources)
        var totals: [Micros] = []
        for cut in cuts.dropFirst().dropLast() {
            let part = try await bill.reading(from: period.start, to: cut).input
            // The minimum is the last segment's, and base fees count in full where their spans begin.
            let terms = input.terms.merging(part.terms) { old, _ in old }.mapValues(\.withoutMinimum)
            let spans = input.spans.filter { $0.start < cut }
            totals.append(
                try Self.rate(period, RatingInput(spans: spans, usage: part.usage, terms: terms)).subtotal)
        }
        return burn.burn(totals: totals + [subtotal], cuts: cuts, sources: sources)
    }

    // MARK: Amounts

    static func rate(_ period: Period, _ input: RatingInput) throws(Refusal) -> RatedPeriod {
        do throws(RatingFailure) {
            return try Rating(period: period).rate(spans: input.spans, terms: input.terms, usage: input.usage)
        } catch {
            throw error.refusal
        }
    }

    private static func sum(_ lines: [InvoiceLine]) throws(Refusal) -> Micros {
        var total: Int64 = 0
        for line in lines {
            let (sum, overflow) = total.addingReportingOverflow(line.amount.value)
            guard !overflow else { throw RatingFailure.amountTooLarge.refusal }
            total = sum
        }
        return Micros(total)
    }
}

extension RatingInput {
    fileprivate var withoutMinimum: RatingInput {
        RatingInput(spans: spans, usage: usage, terms: terms.mapValues(\.withoutMinimum))
    }
}

extension TierTerms {
    fileprivate var withoutMinimum: TierTerms {
        TierTerms(
            tierVersionID: tierVersionID, tierCode: tierCode, version: version, currency: currency, baseFee: baseFee,
            includedRequests: includedRequests, includedTokens: includedTokens, rules: rules, multipliers: multipliers)
    }
}

/// What lines are called.
struct LineNames {
    let terms: [TierVersionID: TierTerms]

    func line(_ rated: RatedLine) -> InvoiceLine {
        let kind: InvoiceLine.Kind =
            switch rated.kind {
            case .baseFee: .baseFee
            case .usage: .usage
            case .included: .included
            case .trial: .trial
            case .minimumCommitment: .minimumCommitment
            }
        return InvoiceLine(
            kind: kind, tierVersionID: rated.tierVersionID, model: rated.model, meter: rated.meter, band: rated.band,
            description: description(rated), start: rated.start, end: rated.end,
            quantityMillionths: rated.quantityMillionths, unitPrice: rated.unitPrice, amount: rated.amount)
    }

    private func description(_ rated: RatedLine) -> String {
        let terms = terms[rated.tierVersionID]
        let tier = terms.map { "\($0.tierCode) version \($0.version)" } ?? ""
        let what = what(rated.meter, rated.model)
        switch rated.kind {
        case .baseFee: return "Base fee of tier \(tier)"
        case .minimumCommitment: return "Up to the minimum of tier \(tier)"
        case .included: return "\(what), included in tier \(tier)"
        case .trial: return "\(what), in the trial of tier \(tier)"
        case .usage:
            if let meter = rated.meter, let model = rated.model,
                case .package(let size, _)? = terms?.rule(of: meter, model: model).price
            {
                return "\(what), in packages of \(size)"
            }
            return what + (rated.band.map { ", band \($0)" } ?? "")
        }
    }

    func what(_ meter: Meter?, _ model: String?) -> String {
        let meterName =
            switch meter {
            case .request: "Requests"
            case .inputToken: "Input tokens"
            case .cachedInputToken: "Cached input tokens"
            case .outputToken: "Output tokens"
            case nil: "fees"
            }
        guard let model else { return meterName }
        return model == PriceSheet.anyModel ? "\(meterName), all other models" : "\(meterName), \(model)"
    }
}
