internal import Domain

/// Reads what a version of a tier says.
struct TierOfferInput {
    static let fields: Set<String> = [
        "currency", "base_fee_micros", "minimum_commitment_micros", "included_requests", "included_tokens",
        "trial_days",
        "effective_at", "cache_hit_request", "failed_request", "prices", "multipliers", "quotas", "rate_limits",
        "cache_hit_token_percent", "stream_leave", "result_ttl_seconds",
    ]
    /// Of units and of micros: sums over the months of a balance stay far from 64 bits.
    private static let countLimit: Int64 = 1_000_000_000_000_000

    let now: Timestamp
    /// What stands for what is left out; `nil` where everything is new.
    var base: TierOffer?

    /// - Returns: `nil` where nothing can be made of it; what is wrong is noted in either case.
    func read(_ input: InputObject) -> TierOffer? {
        guard let currency = base?.currency ?? input.required("currency", .currency) else { return nil }
        var offer = base ?? TierOffer(currency: currency)
        offer.baseFee =
            input.optional("base_fee_micros", .integer(0...Self.countLimit)).map(Micros.init) ?? offer.baseFee
        offer.minimumCommitment =
            input.optional("minimum_commitment_micros", .integer(0...Self.countLimit)).map(Micros.init)
            ?? offer.minimumCommitment
        let count = InputRule<Int64>.integer(0...Self.countLimit)
        offer.includedRequests = input.optional("included_requests", count) ?? offer.includedRequests
        offer.includedTokens = input.optional("included_tokens", count) ?? offer.includedTokens
        offer.trialDays = input.optional("trial_days", .integer(0...366)).map { Int32($0) } ?? offer.trialDays
        if input.has("effective_at") { offer.effectiveAt = input.nullable("effective_at", .instant) }
        if input.has("effective_at"), let instant = offer.effectiveAt, instant < now {
            input.note(
                "effective_at", "lies in the past, and what was sold does not change",
                fix: "Send a later time, or null for the moment of publication.")
        }
        offer.cacheHitTokenPercent =
            input.optional("cache_hit_token_percent", .integer(0...100)) ?? offer.cacheHitTokenPercent
        let charge = InputRule<RequestCharge>.oneOf(RequestCharge.allCases)
        offer.requestTerms.cacheHit = input.optional("cache_hit_request", charge) ?? offer.requestTerms.cacheHit
        offer.requestTerms.failure = input.optional("failed_request", charge) ?? offer.requestTerms.failure
        if input.has("stream_leave") {
            offer.streamLeave = input.nullable("stream_leave", .oneOf(StreamLeave.allCases))
        }
        offer.resultTTLSeconds =
            input.optional("result_ttl_seconds", .integer(1...TenantsEndpoint.longestResultTTLSeconds))
            ?? offer.resultTTLSeconds
        if base == nil || input.has("prices") { offer.rules = rules(input) }
        if input.has("multipliers") { offer.multipliers = multipliers(input) }
        if base == nil || input.has("quotas") { offer.quotas = quotas(input) }
        offer.rateLimits = input.rateLimits(.tier) ?? offer.rateLimits
        promise(&offer, input)
        for one in offer.inexactMultipliers.prefix(8) {
            input.note(
                "multipliers",
                "\(one.multiplier) times the leading price of \(one.meter.rawValue) for \(one.model) needs more than twelve places, or is too large",
                fix: "Take a multiplier or a price with fewer places.")
        }
        return offer
    }

    /// A pay-as-you-go quota says what a month includes: where a new version does not, its quotas do.
    private func promise(_ offer: inout TierOffer, _ input: InputObject) {
        if base == nil {
            for quota in offer.quotas where quota.mode == .payAsYouGo && quota.frequency == .month {
                guard quota.amount <= Self.countLimit else { continue }
                switch quota.unit {
                case .requests: if !input.has("included_requests") { offer.includedRequests = quota.amount }
                case .tokens: if !input.has("included_tokens") { offer.includedTokens = quota.amount }
                }
            }
        }
        for quota in offer.brokenPromises {
            let unit = quota.unit.rawValue
            input.note(
                "quotas",
                quota.frequency == .month
                    ? "promise \(quota.amount) \(unit) a month within the price, and included_\(unit) is \(offer.included(of: quota.unit))"
                    : "promise \(quota.amount) \(unit) within the price by the \(quota.frequency.rawValue), and prices include amounts by the month",
                fix: quota.frequency == .month
                    ? "Send the same amount in both, or another mode."
                    : "Make it a quota of a month, or send another mode.")
        }
    }

    // MARK: Prices

    private func rules(_ input: InputObject) -> [PriceRule] {
        var rules: [PriceRule] = []
        var seen: Set<[String]> = []
        let fields: Set<String> = ["meter", "model", "price_model", "unit_price", "per", "package_size", "bands"]
        for item in input.objects("prices", count: 0...10_000, fields: fields) {
            let meter = item.required("meter", .oneOf(Meter.allCases))
            let model = item.required("model", .modelNameOrAny)
            let price = price(item)
            guard let meter, let model, let price else { continue }
            if !seen.insert([meter.rawValue, model]).inserted {
                item.note(
                    "meter", "has a price for this model already", fix: "Send one price for each meter and model.")
            }
            rules.append(PriceRule(meter: meter, model: model, price: price))
        }
        return rules
    }

    private func price(_ item: InputObject) -> PriceModel? {
        let kind = item.optional("price_model", .oneOf(PriceModel.Kind.allCases)) ?? .flat
        let isBanded = kind == .graduated || kind == .volume
        let per = item.optional("per", .per) ?? 1
        func refuse(_ name: String, _ isWanted: Bool) {
            if !isWanted, item.has(name), !item.isNull(name) {
                item.note(name, "means nothing for a price that is \(kind.rawValue)", fix: "Leave it out.")
            }
        }
        refuse("unit_price", !isBanded)
        refuse("per", kind != .package)
        refuse("package_size", kind == .package)
        if !isBanded, item.has("bands"), !item.isNull("bands"), !item.isEmptyList("bands") {
            item.note("bands", "mean nothing for a price that is \(kind.rawValue)", fix: "Leave them out.")
        }
        switch kind {
        case .flat: return unitPrice(item, per: per).map { .flat($0) }
        case .package:
            let size = item.required("package_size", .integer(1...Self.countLimit))
            let price = item.required("unit_price", .unitPrice)
            guard let size, let price else { return nil }
            return .package(size: size, price: price)
        case .graduated: return bands(item, per: per).map { .graduated($0) }
        case .volume: return bands(item, per: per).map { .volume($0) }
        }
    }

    /// What one unit costs where so many cost what was sent.
    private func unitPrice(_ item: InputObject, per: Int64) -> UnitPrice? {
        guard let price = item.required("unit_price", .unitPrice) else { return nil }
        guard price.picos % per == 0 else {
            item.note(
                "unit_price", "divided by \(per) needs more than twelve places",
                fix: "Send a price that has fewer places, or a price for one unit.")
            return nil
        }
        return UnitPrice(picos: price.picos / per)
    }

    /// Bands that follow one another: the first begins at the first unit, each ends where the next one begins, the last has no end.
    private func bands(_ item: InputObject, per: Int64) -> [PriceBand]? {
        let objects = item.objects("bands", count: 1...100, fields: ["up_to", "unit_price"])
        var bands: [PriceBand] = []
        var end: Int64 = 0
        var isWhole = !objects.isEmpty
        for (index, object) in objects.enumerated() {
            let price = unitPrice(object, per: per)
            let isLast = index == objects.count - 1
            let upTo = object.nullable("up_to", .integer(1...Self.countLimit))
            if upTo == nil, !isLast {
                object.note(
                    "up_to", "is missing: only the last band has no end, so that bands do not overlap",
                    fix: "Send the last unit of the band.")
                isWhole = false
            } else if let upTo, isLast {
                object.note(
                    "up_to", "is the end of the last band: units beyond \(upTo) would have no price",
                    fix: "Send null, or another band behind it.")
                isWhole = false
            } else if let upTo, upTo <= end {
                object.note(
                    "up_to",
                    upTo == end ? "makes a band of no unit" : "overlaps the band before it, which ends at \(end)",
                    fix: "Send a number above \(end).")
                isWhole = false
            }
            end = max(end, upTo ?? end)
            if let price { bands.append(PriceBand(upTo: upTo, unitPrice: price)) } else { isWhole = false }
        }
        return isWhole ? bands : nil
    }

    private func multipliers(_ input: InputObject) -> [TierTerms.ModelMultiplier] {
        var multipliers: [TierTerms.ModelMultiplier] = []
        var seen: Set<[String]> = []
        for item in input.objects("multipliers", count: 0...10_000, fields: ["meter", "model", "multiplier"]) {
            let meter = item.required("meter", .oneOf(Meter.allCases.filter { $0 != .request }))
            let model = item.required("model", .modelName)
            let multiplier = item.required("multiplier", .multiplier)
            guard let meter, let model, let multiplier else { continue }
            if !seen.insert([meter.rawValue, model]).inserted {
                item.note("meter", "has a multiplier for this model already", fix: "Send one for each meter and model.")
            }
            multipliers.append(TierTerms.ModelMultiplier(meter: meter, model: model, multiplier: multiplier))
        }
        return multipliers
    }

    // MARK: Quotas

    private func quotas(_ input: InputObject) -> [QuotaRule] {
        var quotas: [QuotaRule] = []
        var seen: Set<[String]> = []
        let fields: Set<String> = ["unit", "frequency", "amount", "mode", "alignment", "thresholds_percent"]
        for item in input.objects("quotas", count: 0...16, fields: fields) {
            let unit = item.required("unit", .oneOf(QuotaUnit.allCases))
            let frequency = item.required("frequency", .oneOf(Frequency.allCases))
            let amount = item.required("amount", .integer(0...Int64.max))
            let mode = item.required("mode", .oneOf(QuotaMode.allCases))
            let alignment = item.optional("alignment", .oneOf(QuotaAlignment.allCases)) ?? .calendar
            let thresholds = item.optional("thresholds_percent", .thresholds) ?? .standard
            guard let unit, let frequency, let amount, let mode else { continue }
            if !seen.insert([unit.rawValue, frequency.rawValue]).inserted {
                item.note(
                    "unit", "has a quota of this frequency already", fix: "Send one quota for each unit and frequency.")
            }
            quotas.append(
                QuotaRule(
                    unit: unit, frequency: frequency, amount: amount, mode: mode, alignment: alignment,
                    thresholds: thresholds))
        }
        return quotas
    }
}

extension InputRule where Value == Int64 {
    static var per: InputRule {
        InputRule(expectation: "1, 1000 or 1000000", fix: "Send for how many units the price is.") { value in
            guard case .number(let text) = value, let number = Int64(text), [1, 1_000, 1_000_000].contains(number)
            else {
                return nil
            }
            return number
        }
    }
}

extension InputRule where Value == Multiplier {
    static var multiplier: InputRule {
        InputRule(
            expectation: "a decimal as text, above 0, at most 1000, with at most six places",
            fix: #"Send a string such as "2.5", not a number."#
        ) { value in
            guard case .string(let text) = value else { return nil }
            return Multiplier(decimal: text)
        }
    }
}
