/// Rates a period: a pure function from what was used, and what the tenant was on, to the lines of a bill.
///
/// The rules, in their order:
/// 1. Usage is priced by the tier version that its ledger entries name. Quantities of one version are priced together, also where the tenant
///    was on it in two spans.
/// 2. The base fee, the minimum and the included amounts belong to a whole period. A span has the part of them that it is of the period,
///    measured in elapsed microseconds, so that a day of 23 or 25 hours counts as what it is. Fees are rounded half to even, included
///    amounts down to whole units.
/// 3. A unit counts as many units as its model's multiplier says; included amounts, bands and prices see the product.
/// 4. Included amounts go to what costs most by the price of its first unit, then by the order of the meters, then by the model's name.
/// 5. Models without a rule of their own are priced together; in a graduated price they fill the bands in the order of their names. A quantity
///    below zero, of corrections, takes nothing from what is included, empties graduated bands from the top, and begins no package.
/// 6. Each line is rounded once, half to even. The subtotal is the sum of the lines; corrections can make it negative where the tier has no
///    minimum.
///
/// Every unit of the ledger is in exactly one line.
public struct Rating: Sendable {
    private let period: Period
    private let month: Period

    /// - Parameters:
    ///   - period: what is rated.
    ///   - month: the whole period that fees, minimum and included amounts are of, where a change of the time zone made `period` longer or
    ///     shorter than that.
    public init(period: Period, month: Period? = nil) {
        self.period = period
        self.month = month ?? period
    }

    /// - Parameters:
    ///   - spans: of one tenant, inside of the period, without overlap.
    ///   - terms: of every version that spans or usage name.
    ///   - usage: of one tenant in the period; a version, model and trial may occur more than once.
    /// - Throws: ``RatingFailure``.
    public func rate(
        spans: [SubscriptionSpan], terms: [TierVersionID: TierTerms], usage: [UsageQuantity]
    ) throws(RatingFailure) -> RatedPeriod {
        var lines: [RatedLine] = []
        var currency: String?
        for version in Self.versions(spans, usage) {
            guard let terms = terms[version] else { throw .unknownTierVersion(version) }
            guard currency == nil || currency == terms.currency else { throw .mixedCurrencies }
            currency = terms.currency
            let version = VersionRating(
                period: period, month: month, terms: terms,
                spans: spans.filter { $0.tierVersionID == version }.sorted { $0.start < $1.start },
                usage: usage.filter { $0.tierVersionID == version })
            lines += try version.lines()
        }
        return RatedPeriod(currency: currency, lines: lines, subtotal: try sum(lines))
    }

    /// Those with spans in the order of time, then those that usage alone names, by id.
    private static func versions(_ spans: [SubscriptionSpan], _ usage: [UsageQuantity]) -> [TierVersionID] {
        var seen: Set<TierVersionID> = []
        let ordered = spans.sorted { $0.start < $1.start }.map(\.tierVersionID) + usage.map(\.tierVersionID).sorted()
        return ordered.filter { seen.insert($0).inserted }
    }
}

/// Adds up rounded lines.
private func sum(_ lines: [RatedLine]) throws(RatingFailure) -> Micros {
    // Wider than the result, so that the order of the lines does not decide whether it fits.
    guard let total = Int64(exactly: lines.reduce(Int128(0)) { $0 + Int128($1.amount.value) }) else {
        throw .amountTooLarge
    }
    return Micros(total)
}

/// What one tier version costs in a period.
private struct VersionRating {
    let period: Period
    let month: Period
    let terms: TierTerms
    let spans: [SubscriptionSpan]
    let usage: [UsageQuantity]

    func lines() throws(RatingFailure) -> [RatedLine] {
        var lines = try baseFees()
        let trial = usage.filter(\.isTrial)
        for (meter, model, quantity) in try quantities(trial) {
            lines.append(line(.trial, model, meter, quantity: quantity, price: .free, amount: .zero))
        }
        var open = try quantities(usage.filter { !$0.isTrial })
        lines += include(terms.includedRequests, in: &open) { $0 == .request }
        lines += include(terms.includedTokens, in: &open) { $0 != .request }
        lines += try priced(open)
        let minimum = try part(of: terms.minimumCommitment, microseconds: coveredMicroseconds)
        let spent = try sum(lines)
        if minimum > .zero, spent < minimum {
            let (missing, overflow) = minimum.value.subtractingReportingOverflow(spent.value)
            guard !overflow else { throw .amountTooLarge }
            lines.append(line(.minimumCommitment, amount: Micros(missing)))
        }
        return lines
    }

    // MARK: Parts of a period

    private var chargedSpans: [SubscriptionSpan] { spans.filter { !$0.isTrial } }

    private var coveredMicroseconds: Int128 { chargedSpans.reduce(0) { $0 + Self.microseconds(of: $1) } }

    private static func microseconds(of span: SubscriptionSpan) -> Int128 {
        Int128(span.end.microsecondsSince1970) - Int128(span.start.microsecondsSince1970)
    }

    private var monthMicroseconds: Int128 {
        Int128(month.end.microsecondsSince1970) - Int128(month.start.microsecondsSince1970)
    }

    private func baseFees() throws(RatingFailure) -> [RatedLine] {
        guard terms.baseFee != .zero else { return [] }
        var lines: [RatedLine] = []
        for span in chargedSpans {
            lines.append(
                RatedLine(
                    kind: .baseFee, tierVersionID: terms.tierVersionID, model: nil, meter: nil, band: nil,
                    start: span.start, end: span.end, quantityMillionths: nil, unitPrice: nil,
                    amount: try part(of: terms.baseFee, microseconds: Self.microseconds(of: span))))
        }
        return lines
    }

    private func part(of amount: Micros, microseconds: Int128) throws(RatingFailure) -> Micros {
        guard monthMicroseconds > 0 else { return .zero }
        let (exact, overflow) = Int128(amount.value).multipliedReportingOverflow(by: microseconds)
        guard !overflow, let rounded = Int64(exactly: dividedHalfToEven(exact, by: monthMicroseconds)) else {
            throw .amountTooLarge
        }
        return Micros(rounded)
    }

    // MARK: Quantities

    /// A model's quantity of a meter, in millionths of a unit and never zero.
    private typealias Quantity = (meter: Meter, model: String, millionths: Int128)

    /// Of one model, far beyond 2⁶³ units at the largest multiplier; a hundred thousand models of it can be added up.
    private static let largestMillionths: UInt128 = 1_000_000_000_000_000_000_000_000_000_000_000

    /// By meter and model, each once.
    private func quantities(_ usage: [UsageQuantity]) throws(RatingFailure) -> [Quantity] {
        var units: [Meter: [String: Int128]] = [:]
        for part in usage {
            for meter in Meter.allCases { units[meter, default: [:]][part.model, default: 0] += part.units(of: meter) }
        }
        var quantities: [Quantity] = []
        for meter in Meter.allCases {
            for (model, units) in (units[meter] ?? [:]).sorted(by: { $0.key < $1.key }) where units != 0 {
                let (millionths, overflow) = units.multipliedReportingOverflow(
                    by: Int128(terms.multiplier(of: meter, model: model).millionths))
                guard !overflow, millionths.magnitude <= Self.largestMillionths else { throw .amountTooLarge }
                quantities.append((meter, model, millionths))
            }
        }
        return quantities
    }

    /// Takes what the tier includes out of the quantities.
    private func include(
        _ included: Int64, in open: inout [Quantity], _ isMeant: (Meter) -> Bool
    ) -> [RatedLine] {
        guard included > 0, monthMicroseconds > 0 else { return [] }
        var left = Int128(included) * coveredMicroseconds / monthMicroseconds * 1_000_000
        var lines: [RatedLine] = []
        let leadingPrice = { (quantity: Quantity) -> Int64 in
            terms.rule(of: quantity.meter, model: quantity.model).price.leadingPrice.picos
        }
        // `sorted` is stable, and the quantities are in the order of meters and models.
        let dearestFirst = open.indices.sorted { leadingPrice(open[$0]) > leadingPrice(open[$1]) }
        for index in dearestFirst where isMeant(open[index].meter) && open[index].millionths > 0 {
            let taken = min(left, open[index].millionths)
            guard taken > 0 else { break }
            left -= taken
            open[index].millionths -= taken
            lines.append(
                line(
                    .included, open[index].model, open[index].meter, quantity: taken, price: .free, amount: .zero))
        }
        open.removeAll { $0.millionths == 0 }
        return lines
    }

    // MARK: Prices

    private func priced(_ open: [Quantity]) throws(RatingFailure) -> [RatedLine] {
        var lines: [RatedLine] = []
        for meter in Meter.allCases {
            var groups: [String: [Quantity]] = [:]
            for quantity in open where quantity.meter == meter {
                groups[terms.rule(of: meter, model: quantity.model).group, default: []].append(quantity)
            }
            for (group, members) in groups.sorted(by: { $0.key < $1.key }) {
                lines += try priced(meter, group, members)
            }
        }
        return lines
    }

    private func priced(_ meter: Meter, _ group: String, _ members: [Quantity]) throws(RatingFailure) -> [RatedLine] {
        let total = members.reduce(Int128(0)) { $0 + $1.millionths }
        var lines: [RatedLine] = []
        switch terms.rule(of: meter, model: group).price {
        case .flat(let price):
            for member in members { lines.append(try usageLine(member.model, meter, member.millionths, price)) }
        case .graduated(let bands):
            var bandsLeft = BandWalk(bands)
            for member in members {
                for (band, millionths, price) in bandsLeft.take(member.millionths) {
                    lines.append(try usageLine(member.model, meter, millionths, price, band: band))
                }
            }
        case .volume(let bands):
            let index = bands.firstIndex { total <= Int128($0.upTo ?? .max) * 1_000_000 } ?? bands.count - 1
            guard bands.indices.contains(index) else { break }
            for member in members {
                lines.append(
                    try usageLine(
                        member.model, meter, member.millionths, bands[index].unitPrice, band: Int16(clamping: index + 1)
                    ))
            }
        case .package(let size, let price):
            let packageMillionths = Int128(size) * 1_000_000
            let packages = total > 0 ? (total + packageMillionths - 1) / packageMillionths : 0
            lines.append(
                line(
                    .usage, group, meter, quantity: total, price: price,
                    amount: try Self.amount(packages * 1_000_000, at: price)))
        }
        return lines
    }

    private func usageLine(
        _ model: String, _ meter: Meter, _ millionths: Int128, _ price: UnitPrice, band: Int16? = nil
    ) throws(RatingFailure) -> RatedLine {
        line(
            .usage, model, meter, quantity: millionths, price: price, amount: try Self.amount(millionths, at: price),
            band: band)
    }

    /// Millionths of a unit times picos are attos (10⁻¹⁸ of the currency's unit); a micro has 10¹² of them.
    private static func amount(_ millionths: Int128, at price: UnitPrice) throws(RatingFailure) -> Micros {
        let (attos, overflow) = millionths.multipliedReportingOverflow(by: Int128(price.picos))
        guard !overflow, let micros = Int64(exactly: dividedHalfToEven(attos, by: 1_000_000_000_000)) else {
            throw .amountTooLarge
        }
        return Micros(micros)
    }

    private func line(
        _ kind: RatedLine.Kind, _ model: String? = nil, _ meter: Meter? = nil, quantity: Int128? = nil,
        price: UnitPrice? = nil, amount: Micros, band: Int16? = nil
    ) -> RatedLine {
        RatedLine(
            kind: kind, tierVersionID: terms.tierVersionID, model: model, meter: meter, band: band,
            start: spans.first?.start ?? period.start, end: spans.last?.end ?? period.end,
            quantityMillionths: quantity, unitPrice: price, amount: amount)
    }
}

/// Fills bands one after the other. What is negative, a correction of what was billed before, empties them again from where the walk is, and
/// below the first unit costs what the first band costs: so what the members of a group cost together depends on their sum alone.
private struct BandWalk {
    private let bands: [PriceBand]
    private var position: Int128 = 0

    init(_ bands: [PriceBand]) { self.bands = bands }

    mutating func take(_ millionths: Int128) -> [(band: Int16, millionths: Int128, price: UnitPrice)] {
        var taken: [(band: Int16, millionths: Int128, price: UnitPrice)] = []
        let target = position + millionths
        for index in millionths < 0 ? Array(bands.indices.reversed()) : Array(bands.indices) where position != target {
            let floor = index == 0 ? Int128.min : end(of: bands[index - 1])
            let part = min(max(target, floor), end(of: bands[index])) - position
            guard part != 0, (part < 0) == (millionths < 0) else { continue }
            taken.append((Int16(clamping: index + 1), part, bands[index].unitPrice))
            position += part
        }
        return taken
    }

    /// In millionths of a unit from the first one.
    private func end(of band: PriceBand) -> Int128 { band.upTo.map { Int128($0) * 1_000_000 } ?? .max }
}

/// Divides by a positive number and rounds half to even.
func dividedHalfToEven(_ dividend: Int128, by divisor: Int128) -> Int128 {
    let (quotient, remainder) = dividend.quotientAndRemainder(dividingBy: divisor)
    let twice = remainder.magnitude * 2
    let isAway = twice > divisor.magnitude || twice == divisor.magnitude && quotient & 1 != 0
    return isAway ? quotient + (dividend < 0 ? -1 : 1) : quotient
}
