internal import Domain
internal import PostgresDriver

/// The columns of the view `tier_offers`.
let tierOfferColumns: [PostgresType] =
    [
        .text, .text, .uuid, .timestamptz, .uuid, .int4, .text, .text,
        .int8, .int8, .int8, .int8, .int4, .timestamptz,
        .int2, .text, .int4, .timestamptz, .timestamptz,
        .textArray, .textArray, .textArray, .textArray, .int8Array,
        .textArray, .textArray, .int8Array, .textArray,
        .textArray, .textArray, .textArray,
        .textArray, .textArray, .int8Array, .textArray, .textArray, .textArray,
    ] + rateLimitColumns + [.text, .text]

/// Reads ``tierOfferColumns``.
func tierRow(_ row: inout PostgresRow) throws(PostgresError) -> TierRow {
    let code = try row.text()
    let name = try row.text()
    let tenantID = try row.optionalUUID().map { TenantID($0) }
    let tierCreatedAt = Timestamp(try row.timestamp())
    let id = TierVersionID(try row.uuid())
    let number = try row.int32()
    guard let state = TierRow.State(rawValue: try row.text()) else {
        throw row.failure(6, "is no state of a tier version")
    }
    var offer = TierOffer(currency: try row.text())
    offer.baseFee = Micros(try row.int64())
    offer.minimumCommitment = Micros(try row.int64())
    offer.includedRequests = try row.int64()
    offer.includedTokens = try row.int64()
    offer.trialDays = try row.int32()
    offer.effectiveAt = try row.optionalTimestamp().map { Timestamp($0) }
    offer.cacheHitTokenPercent = Int64(try row.int16())
    offer.streamLeave = try row.optionalText().flatMap { StreamLeave(rawValue: $0) }
    offer.resultTTLSeconds = Int64(try row.int32())
    let createdAt = Timestamp(try row.timestamp())
    let publishedAt = try row.optionalTimestamp().map { Timestamp($0) }
    offer.rules = try rules(&row)
    offer.multipliers = try multipliers(&row)
    offer.quotas = try quotas(&row)
    offer.rateLimits = try rateLimitRules(&row)
    offer.requestTerms = try requestTerms(&row)
    return TierRow(
        code: code, name: name, tenantID: tenantID,
        version: TierRow.Version(
            id: id, number: number, state: state, offer: offer, createdAt: createdAt, publishedAt: publishedAt),
        createdAt: tierCreatedAt)
}

/// A word that this build cannot read must not turn into another price.
func requestTerms(_ row: inout PostgresRow) throws(PostgresError) -> RequestTerms {
    let (hit, failure) = (RequestCharge(rawValue: try row.text()), RequestCharge(rawValue: try row.text()))
    guard let hit, let failure else { throw row.failure(0, "has a term that this build does not know") }
    return RequestTerms(cacheHit: hit, failure: failure)
}

private struct Place: Hashable {
    let meter: String
    let model: String
}

/// A price that this build cannot read must not turn into a free one.
private func rules(_ row: inout PostgresRow) throws(PostgresError) -> [PriceRule] {
    let meters = try row.array(of: String.self)
    let models = try row.array(of: String.self)
    let kinds = try row.array(of: String.self)
    let unitPrices = try row.array(of: String.self)
    let packageSizes = try row.array(of: Int64.self)
    let bands = try bands(&row)
    var rules: [PriceRule] = []
    for index in meters.indices {
        let place = Place(meter: meters[index], model: models[index])
        guard let meter = Meter(rawValue: place.meter), let unitPrice = UnitPrice(decimal: unitPrices[index]) else {
            throw row.failure(22, "holds a price that this build cannot read")
        }
        let price: PriceModel
        switch kinds[index] {
        case "flat": price = .flat(unitPrice)
        case "package": price = .package(size: packageSizes[index], price: unitPrice)
        case "graduated": price = .graduated(bands[place] ?? [])
        case "volume": price = .volume(bands[place] ?? [])
        default: throw row.failure(21, "holds a kind of price that this build does not know")
        }
        guard price.isWellFormed else { throw row.failure(26, "holds bands that leave units without a price") }
        rules.append(PriceRule(meter: meter, model: place.model, price: price))
    }
    return rules
}

private func bands(_ row: inout PostgresRow) throws(PostgresError) -> [Place: [PriceBand]] {
    let meters = try row.array(of: String.self)
    let models = try row.array(of: String.self)
    let ends = try row.array(of: Int64.self)
    let unitPrices = try row.array(of: String.self)
    var bands: [Place: [PriceBand]] = [:]
    for index in meters.indices {
        guard let unitPrice = UnitPrice(decimal: unitPrices[index]) else {
            throw row.failure(27, "holds a price that this build cannot read")
        }
        bands[Place(meter: meters[index], model: models[index]), default: []].append(
            PriceBand(upTo: ends[index] < 0 ? nil : ends[index], unitPrice: unitPrice))
    }
    return bands
}

private func multipliers(_ row: inout PostgresRow) throws(PostgresError) -> [TierTerms.ModelMultiplier] {
    let meters = try row.array(of: String.self)
    let models = try row.array(of: String.self)
    let texts = try row.array(of: String.self)
    var multipliers: [TierTerms.ModelMultiplier] = []
    for index in meters.indices {
        guard let meter = Meter(rawValue: meters[index]), let multiplier = Multiplier(decimal: texts[index]) else {
            throw row.failure(30, "holds a multiplier that this build cannot read")
        }
        multipliers.append(TierTerms.ModelMultiplier(meter: meter, model: models[index], multiplier: multiplier))
    }
    return multipliers
}

private func quotas(_ row: inout PostgresRow) throws(PostgresError) -> [QuotaRule] {
    let units = try row.array(of: String.self)
    let frequencies = try row.array(of: String.self)
    let amounts = try row.array(of: Int64.self)
    let modes = try row.array(of: String.self)
    let alignments = try row.array(of: String.self)
    let thresholds = try row.array(of: String.self)
    var quotas: [QuotaRule] = []
    for index in units.indices {
        guard let unit = QuotaUnit(rawValue: units[index]), let frequency = Frequency(rawValue: frequencies[index]),
            let mode = QuotaMode(rawValue: modes[index]), let alignment = QuotaAlignment(rawValue: alignments[index]),
            let marks = QuotaThresholds(text: thresholds[index])
        else { throw row.failure(31, "holds a quota that this build cannot read") }
        quotas.append(
            QuotaRule(
                unit: unit, frequency: frequency, amount: amounts[index], mode: mode, alignment: alignment,
                thresholds: marks))
    }
    return quotas
}
