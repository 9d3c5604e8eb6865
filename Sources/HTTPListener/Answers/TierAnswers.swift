public import Domain

/// A tier with one of its versions, as both APIs show it.
public struct TierAnswer: Encodable {
    let code: String
    let object = "tier"
    let name: String
    @Present var tenantID: String?
    let version: TierVersionAnswer
    let createdAt: String

    enum CodingKeys: String, CodingKey {
        case code, object, name, version
        case tenantID = "tenant_id"
        case createdAt = "created_at"
    }

    public init(_ row: TierRow) {
        code = row.code
        name = row.name
        tenantID = row.tenantID?.description
        version = TierVersionAnswer(row)
        createdAt = row.createdAt.description
    }
}

/// A version of a tier: what it promises, and where it stands.
public struct TierVersionAnswer: Encodable {
    struct Band: Encodable {
        @Present var upTo: Int64?
        let unitPrice: String

        enum CodingKeys: String, CodingKey {
            case upTo = "up_to"
            case unitPrice = "unit_price"
        }
    }

    struct Price: Encodable {
        let meter: String
        let model: String
        let priceModel: String
        @Present var unitPrice: String?
        @Present var packageSize: Int64?
        let bands: [Band]

        enum CodingKeys: String, CodingKey {
            case meter, model, bands
            case priceModel = "price_model"
            case unitPrice = "unit_price"
            case packageSize = "package_size"
        }

        init(_ rule: PriceRule) {
            meter = rule.meter.rawValue
            model = rule.model
            priceModel = rule.price.kind.rawValue
            unitPrice = rule.price.unitPrice?.description
            packageSize = rule.price.packageSize
            bands = rule.price.bands.map { Band(upTo: $0.upTo, unitPrice: $0.unitPrice.description) }
        }
    }

    struct ModelMultiplier: Encodable {
        let meter: String
        let model: String
        let multiplier: String
    }

    struct Rule: Encodable {
        let unit: String
        let frequency: String
        let amount: Int64
        let mode: String
        let alignment: String
        let thresholdsPercent: [Int16]

        enum CodingKeys: String, CodingKey {
            case unit, frequency, amount, mode, alignment
            case thresholdsPercent = "thresholds_percent"
        }
    }

    struct Limit: Encodable {
        let scope: String
        let unit: String
        @Present var amount: Int64?
        @Present var burst: Int64?
    }

    let id: String
    let object = "tier_version"
    let tier: String
    let number: Int32
    let state: String
    let currency: String
    let baseFeeMicros: Int64
    let minimumCommitmentMicros: Int64
    let includedRequests: Int64
    let includedTokens: Int64
    let trialDays: Int32
    @Present var effectiveAt: String?
    let cacheHitTokenPercent: Int64
    let cacheHitRequest: String
    let failedRequest: String
    let streamLeave: String?
    let resultTTLSeconds: Int64
    let prices: [Price]
    let multipliers: [ModelMultiplier]
    let quotas: [Rule]
    let rateLimits: [Limit]
    let createdAt: String
    @Present var publishedAt: String?

    enum CodingKeys: String, CodingKey {
        case id, object, tier, number, state, currency, prices, multipliers, quotas
        case baseFeeMicros = "base_fee_micros"
        case minimumCommitmentMicros = "minimum_commitment_micros"
        case includedRequests = "included_requests"
        case includedTokens = "included_tokens"
        case trialDays = "trial_days"
        case effectiveAt = "effective_at"
        case cacheHitRequest = "cache_hit_request"
        case failedRequest = "failed_request"
        case cacheHitTokenPercent = "cache_hit_token_percent"
        case streamLeave = "stream_leave"
        case resultTTLSeconds = "result_ttl_seconds"
        case rateLimits = "rate_limits"
        case createdAt = "created_at"
        case publishedAt = "published_at"
    }

    public init(_ row: TierRow) {
        let (version, offer) = (row.version, row.version.offer)
        id = version.id.priceVersionText
        tier = row.code
        number = version.number
        state = version.state.rawValue
        currency = offer.currency
        baseFeeMicros = offer.baseFee.value
        minimumCommitmentMicros = offer.minimumCommitment.value
        includedRequests = offer.includedRequests
        includedTokens = offer.includedTokens
        trialDays = offer.trialDays
        effectiveAt = offer.effectiveAt?.description
        cacheHitTokenPercent = offer.cacheHitTokenPercent
        cacheHitRequest = offer.requestTerms.cacheHit.rawValue
        failedRequest = offer.requestTerms.failure.rawValue
        streamLeave = offer.streamLeave?.rawValue
        resultTTLSeconds = offer.resultTTLSeconds
        prices = offer.rules.map(Price.init)
        multipliers = offer.multipliers.map {
            ModelMultiplier(meter: $0.meter.rawValue, model: $0.model, multiplier: $0.multiplier.description)
        }
        quotas = offer.quotas.map {
            Rule(
                unit: $0.unit.rawValue, frequency: $0.frequency.rawValue, amount: $0.amount, mode: $0.mode.rawValue,
                alignment: $0.alignment.rawValue, thresholdsPercent: $0.thresholds.percents)
        }
        rateLimits = offer.rateLimits.map {
            Limit(scope: $0.scope.rawValue, unit: $0.unit.rawValue, amount: $0.amount, burst: $0.burst)
        }
        createdAt = version.createdAt.description
        publishedAt = version.publishedAt?.description
    }
}
