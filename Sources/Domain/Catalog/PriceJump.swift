/// What a draft moves by more than a factor, or so that no factor says how far.
public struct PriceJump: Hashable, Sendable {
    /// As in `price of output_token for iris`.
    public let what: String
    public let before: String
    public let after: String
}

extension TierOffer {
    /// What this offer moves by more than `factor` either way against another one. From nothing to something is more than any factor.
    ///
    /// Of a meter and model that is what a unit costs, times its multiplier: the first unit, and those on both sides of each band's end in
    /// either version. Besides, the size of packages, the multiplier, whether the whole quantity decides the price, the fee, the minimum,
    /// the included amounts, and what is charged of hits of the cache, of streams whose caller leaves and of requests that fail.
    public func jumps(from old: TierOffer, factor: Int64) -> [PriceJump] {
        var jumps: [PriceJump] = []
        let amounts: [(String, Int64, Int64)] = [
            ("base_fee_micros", old.baseFee.value, baseFee.value),
            ("minimum_commitment_micros", old.minimumCommitment.value, minimumCommitment.value),
            ("included_requests", old.includedRequests, includedRequests),
            ("included_tokens", old.includedTokens, includedTokens),
            ("cache_hit_token_percent", old.cacheHitTokenPercent, cacheHitTokenPercent),
        ]
        for (name, before, after) in amounts where Self.isFar(before, after, factor) {
            jumps.append(PriceJump(what: name, before: String(before), after: String(after)))
        }
        if old.streamLeave != streamLeave {
            let text = { (leave: StreamLeave?) in leave?.rawValue ?? "what the model says" }
            jumps.append(
                PriceJump(what: "stream_leave", before: text(old.streamLeave), after: text(streamLeave)))
        }
        let requests = [
            ("cache_hit_request", old.requestTerms.cacheHit, requestTerms.cacheHit),
            ("failed_request", old.requestTerms.failure, requestTerms.failure),
        ]
        for (name, before, after) in requests where before != after {
            jumps.append(PriceJump(what: name, before: before.rawValue, after: after.rawValue))
        }
        let nobody = TierVersionID(high: 0, low: 0)
        let (oldTerms, newTerms) = (old.terms(nobody, code: "", version: 1), terms(nobody, code: "", version: 1))
        let places = [old, self].flatMap { $0.rules.map { [$0.meter.rawValue, $0.model] } }
        let multiplied = [old, self].flatMap { $0.multipliers.map { [$0.meter.rawValue, $0.model] } }
        for place in Set(places + multiplied).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            guard let meter = Meter(rawValue: place[0]) else { continue }
            let (before, after) = (UnitCost(oldTerms, meter, place[1]), UnitCost(newTerms, meter, place[1]))
            if let jump = after.jump(from: before, factor, "\(place[0]) for \(place[1])") { jumps.append(jump) }
        }
        return jumps
    }

    fileprivate static func isFar(_ before: Int64, _ after: Int64, _ factor: Int64) -> Bool {
        let (low, high) = (Int128(min(before, after)), Int128(max(before, after)))
        return high > low * Int128(factor)
    }
}

/// What units of one meter and model cost, one after the other.
private struct UnitCost {
    /// Attos (10⁻¹⁸ of the currency's unit) for `units` units.
    struct Price {
        let attos: UInt128
        let units: UInt128

        /// Whether this is more than `factor` times another price: compared crosswise, so without rounding.
        func exceeds(_ other: Price, _ factor: Int64) -> Bool {
            let (most, overflow) = other.attos.multipliedReportingOverflow(by: UInt128(max(1, factor)))
            guard !overflow else { return false }
            let (left, right) = (
                attos.multipliedFullWidth(by: other.units), most.multipliedFullWidth(by: units)
            )
            return left.high != right.high ? left.high > right.high : left.low > right.low
        }
    }

    let model: PriceModel
    let multiplier: Multiplier

    init(_ terms: TierTerms, _ meter: Meter, _ name: String) {
        model = terms.rule(of: meter, model: name).price
        multiplier = terms.multiplier(of: meter, model: name)
    }

    func jump(from old: UnitCost, _ factor: Int64, _ place: String) -> PriceJump? {
        for unit in Set([1] + old.edges + edges).sorted() {
            let (before, after) = (old.price(of: unit), price(of: unit))
            guard before.exceeds(after, factor) || after.exceeds(before, factor) else { continue }
            return PriceJump(
                what: unit == 1 ? "price of \(place)" : "price of \(place), unit \(unit)", before: old.text(of: unit),
                after: text(of: unit))
        }
        let (size, oldSize) = (model.packageSize ?? 1, old.model.packageSize ?? 1)
        if TierOffer.isFar(oldSize, size, factor) {
            return PriceJump(what: "package size of \(place)", before: String(oldSize), after: String(size))
        }
        if TierOffer.isFar(old.multiplier.millionths, multiplier.millionths, factor) {
            return PriceJump(
                what: "multiplier of \(place)", before: old.multiplier.description, after: multiplier.description)
        }
        if isByVolume != old.isByVolume {
            return PriceJump(
                what: "price model of \(place)", before: old.model.kind.rawValue, after: model.kind.rawValue)
        }
        return nil
    }

    /// Where the whole quantity decides, a unit more can change what all of them cost.
    private var isByVolume: Bool { model.kind == .volume && model.bands.count > 1 }

    /// The last units of bands and those behind them, as they are used and not as they are priced.
    private var edges: [Int128] {
        model.bands.compactMap(\.upTo).flatMap { end in
            let unit = Int128(end) * 1_000_000 / Int128(max(1, multiplier.millionths))
            return [max(1, unit), unit + 1]
        }
    }

    private func unitPrice(_ unit: Int128) -> UnitPrice {
        model.price(atMillionths: unit * Int128(multiplier.millionths))
    }

    private func price(of unit: Int128) -> Price {
        Price(
            attos: UInt128(max(0, unitPrice(unit).picos)) * UInt128(max(0, multiplier.millionths)),
            units: UInt128(max(1, model.packageSize ?? 1)))
    }

    private func text(of unit: Int128) -> String {
        let price = unitPrice(unit).description
        let units = model.packageSize.map { " for \($0) units" } ?? ""
        return price + units + (multiplier == .one ? "" : " times \(multiplier)")
    }
}
