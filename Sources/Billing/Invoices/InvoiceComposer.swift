internal import Domain

/// Makes what an invoice of a period says from what it follows from: the period's rating, what earlier periods have become since they were
/// invoiced, and the credits that pay for it.
struct InvoiceComposer: Sendable {
    /// How many invoiced periods are looked at for late usage. What comes later than that is for a credit note or an adjustment.
    private static let lateLimit = 24

    /// The invoices of a period, one for each currency, that of its last stay first.
    func drafts(_ bill: any BillReading, _ period: BillingPeriod) async throws -> [InvoiceDraft] {
        let reading = try await bill.reading(from: period.start, to: period.end)
        let input = try Self.known(reading.input)
        let last = input.spans.last.flatMap { input.terms[$0.tierVersionID]?.currency }
        var charges: [(currency: String, charge: Charge)] = last.map { [($0, Charge())] } ?? []
        func add(_ currency: String, _ charge: Charge) {
            if let index = charges.firstIndex(where: { $0.currency == currency }) {
                charges[index].charge.add(charge)
            } else {
                charges.append((currency, charge))
            }
        }
        // Late usage of this very period can stand on a later invoice, where the one of the period was void by then.
        let elsewhere = CurrencyParts(reading: reading, input: input, billed: try await bill.billed(period.period))
        for currency in elsewhere.currencies {
            let names = LineNames(terms: input.terms)
            let lines = try Self.rate(period, elsewhere.input(currency)).lines.map { names.line($0) }
            let before = Self.difference(
                from: elsewhere.lines(currency), to: [], period, names, "Invoiced before")
            add(currency, Charge(lines: lines + before, usage: elsewhere.used(currency, period)))
        }
        for billed in try await bill.billed(before: period.start, limit: Self.lateLimit) {
            for (currency, charge) in try await late(bill, billed) { add(currency, charge) }
        }
        var drafts: [InvoiceDraft] = []
        for (currency, charge) in charges where !charge.isEmpty {
            drafts.append(try await draft(bill, period, currency, charge, input.part { $0 == currency }))
        }
        if drafts.isEmpty, let last { drafts = [try await draft(bill, period, last, Charge(), input)] }
        return drafts
    }

    private func draft(
        _ bill: any BillReading, _ period: BillingPeriod, _ currency: String, _ charge: Charge, _ input: RatingInput
    ) async throws -> InvoiceDraft {
        var lines = charge.lines
        var sum = try Self.sum(lines)
        let givenBack = Micros(max(0, -sum.value))
        if givenBack > .zero {
            lines.append(
                InvoiceLine(
                    kind: .carriedCredit, description: "Given back as a credit", start: period.start, end: period.end,
                    amount: givenBack))
            sum = .zero
        }
        let credits = try await self.credits(bill, period, input, subtotal: sum, currency)
        return InvoiceDraft(
            currency: currency, lines: lines, subtotal: sum, credits: credits, usage: charge.usage,
            givenBack: givenBack, late: charge.late)
    }

    /// What one invoice charges.
    private struct Charge {
        var lines: [InvoiceLine] = []
        var usage: [InvoiceDraft.UsedIn] = []
        var late: [BillingPeriod] = []

        var isEmpty: Bool { lines.isEmpty && usage.isEmpty }

        mutating func add(_ other: Charge) {
            lines += other.lines
            usage += other.usage
            late += other.late
        }
    }

    // MARK: Late usage

    /// What a period costs now, less what was invoiced for it, by currency; nothing where nothing was used in it since, or where its
    /// invoice is void and left alone. A currency that has no invoice of that period has its fees too.
    private func late(
        _ bill: any BillReading, _ billed: BilledPeriod
    ) async throws -> [(currency: String, charge: Charge)] {
        guard let period = BillingPeriod(start: billed.start, end: billed.end, timeZone: billed.timeZone) else {
            return []
        }
        let reading = try await bill.reading(from: period.start, to: period.end)
        let input = try Self.known(reading.input)
        let parts = CurrencyParts(reading: reading, input: input, billed: billed)
        let names = LineNames(terms: input.terms)
        var charges: [(currency: String, charge: Charge)] = []
        for currency in parts.currencies where !billed.currenciesLeftAlone.contains(currency) {
            let usage = parts.used(currency, period)
            // An empty set is a period that says nothing of its currencies.
            let isMissing = !billed.settledCurrencies.isEmpty && !billed.settledCurrencies.contains(currency)
            guard !usage.isEmpty || isMissing else { continue }
            let now = try Self.rate(period, parts.input(currency)).lines.map { names.line($0) }
            let lines = Self.difference(
                from: parts.lines(currency), to: now, period, names, "Late usage of \(period.label)")
            charges.append((currency, Charge(lines: lines, usage: usage, late: [period])))
        }
        return charges
    }

    /// A period's reading and what was billed of it, in parts by the currency of their tier versions.
    private struct CurrencyParts {
        let reading: BillingReading
        let input: RatingInput
        let billed: BilledPeriod

        /// Those of stays in the order of time, then the others by name.
        var currencies: [String] {
            var seen: Set<String> = []
            let ofStays = input.spans.compactMap { currency(of: $0.tierVersionID) }
            let others = (input.usage + billed.usage).compactMap { currency(of: $0.tierVersionID) }
            let ofLines = billed.lines.compactMap { $0.tierVersionID.flatMap(currency(of:)) }
            return (ofStays + (others + ofLines).sorted()).filter { seen.insert($0).inserted }
        }

        func currency(of version: TierVersionID) -> String? {
            input.terms[version]?.currency ?? billed.currencies[version]
        }

        func input(_ currency: String) -> RatingInput { input.part { $0 == currency } }

        func lines(_ currency: String) -> [InvoiceLine] {
            billed.lines.filter { $0.tierVersionID.flatMap(self.currency(of:)) == currency }
        }

        func used(_ currency: String, _ period: BillingPeriod) -> [InvoiceDraft.UsedIn] {
            InvoiceComposer.used(
                period.start, input.usage.filter { self.currency(of: $0.tierVersionID) == currency },
                billed.usage.filter { self.currency(of: $0.tierVersionID) == currency }, seen: reading.seen,
                seenBefore: billed.seen)
        }
    }

    /// Without quantities that corrections have brought to nothing: they name no currency.
    private static func known(_ input: RatingInput) throws(Refusal) -> RatingInput {
        let usage = input.usage.filter {
            $0.requests != 0 || $0.inputTokens != 0 || $0.cachedInputTokens != 0 || $0.outputTokens != 0
        }
        for version in input.spans.map(\.tierVersionID) + usage.map(\.tierVersionID)
        where input.terms[version] == nil { throw RatingFailure.unknownTierVersion(version).refusal }
        return RatingInput(spans: input.spans, usage: usage, terms: input.terms)
    }

    /// The quantities that no standing invoice charges yet; negative where there was a correction.
    private static func used(
        _ start: Timestamp, _ now: [UsageQuantity], _ billed: [UsageQuantity], seen: String, seenBefore: String?
    ) -> [InvoiceDraft.UsedIn] {
        struct Key: Hashable {
            let version: TierVersionID
            let isTrial: Bool
            let model: String
        }
        var sums: [Key: [Int64]] = [:]
        var order: [Key] = []
        for (part, sign) in now.map({ ($0, Int64(1)) }) + billed.map({ ($0, Int64(-1)) }) {
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
                seen: seen, seenBefore: seenBefore)
        }
    }

    /// One line for each tier version, model and meter whose amount or quantity differs.
    private static func difference(
        from billed: [InvoiceLine], to now: [InvoiceLine], _ period: BillingPeriod, _ names: LineNames, _ title: String
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
        _ bill: any BillReading, _ period: BillingPeriod, _ input: RatingInput, subtotal: Micros, _ currency: String
    ) async throws -> [CreditApplication] {
        guard subtotal > .zero else { return [] }
        let sources = try await bill.credits(currency)
        let burn = CreditBurn(period: period.period)
        let cuts = burn.cuts(sources)
        var totals: [Micros] = []
        for cut in cuts.dropFirst().dropLast() {
            let part = try await bill.reading(from: period.start, to: cut).input.part { $0 == currency }
            // The minimum is the last segment's, and base fees count in full where their spans begin.
            let terms = input.terms.merging(part.terms) { old, _ in old }.mapValues(\.withoutMinimum)
            let spans = input.spans.filter { $0.start < cut }
            totals.append(
                try Self.rate(period, RatingInput(spans: spans, usage: part.usage, terms: terms)).subtotal)
        }
        return burn.burn(totals: totals + [subtotal], cuts: cuts, sources: sources)
    }

    // MARK: Amounts

    private static func rate(_ period: BillingPeriod, _ input: RatingInput) throws(Refusal) -> RatedPeriod {
        do throws(RatingFailure) {
            return try Rating(period: period.period, month: period.month).rate(
                spans: input.spans, terms: input.terms, usage: input.usage)
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
    /// Of the tier versions whose currency is meant, with the terms of all.
    fileprivate func part(_ isMeant: (String) -> Bool) -> RatingInput {
        func isIn(_ version: TierVersionID) -> Bool { terms[version].map { isMeant($0.currency) } ?? false }
        return RatingInput(
            spans: spans.filter { isIn($0.tierVersionID) }, usage: usage.filter { isIn($0.tierVersionID) }, terms: terms
        )
    }
}

extension TierTerms {
    fileprivate var withoutMinimum: TierTerms {
        TierTerms(
            tierVersionID: tierVersionID, tierCode: tierCode, version: version, currency: currency, baseFee: baseFee,
            includedRequests: includedRequests, includedTokens: includedTokens, rules: rules, multipliers: multipliers)
    }
}
