internal import Domain
internal import PostgresDriver

struct InsertTierVersion: PostgresStatement {
    static let sql = """
        INSERT INTO tier_versions (tier_version_id, tier_code, version, currency, base_fee_micros, minimum_commitment_micros,
            included_requests, included_tokens, trial_days, effective_at, cache_hit_token_percent, stream_leave, result_ttl_seconds,
            cache_hit_request, failed_request)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        """
    static let parameters: [PostgresType] = [
        .uuid, .text, .int4, .text, .int8, .int8, .int8, .int8, .int4, .timestamptz, .int2, .text, .int4, .text, .text,
    ]

    let id: TierVersionID
    let name: TierVersionName
    let offer: TierOffer

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(name.code)
        binds.append(name.number)
        binds.append(offer.currency)
        binds.append(figures: offer)
    }
}

struct UpdateTierDraft: PostgresStatement {
    static let sql = """
        UPDATE tier_versions SET base_fee_micros = $2, minimum_commitment_micros = $3, included_requests = $4, included_tokens = $5,
            trial_days = $6, effective_at = $7, cache_hit_token_percent = $8, stream_leave = $9, result_ttl_seconds = $10,
            cache_hit_request = $11, failed_request = $12
        WHERE tier_version_id = $1
        """
    static let parameters: [PostgresType] = [
        .uuid, .int8, .int8, .int8, .int8, .int4, .timestamptz, .int2, .text, .int4, .text, .text,
    ]

    let id: TierVersionID
    let offer: TierOffer

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(figures: offer)
    }
}

extension PostgresBinds {
    /// What a version says beside its lists, from the base fee on.
    fileprivate mutating func append(figures offer: TierOffer) {
        append(offer.baseFee.value)
        append(offer.minimumCommitment.value)
        append(offer.includedRequests)
        append(offer.includedTokens)
        append(offer.trialDays)
        append(offer.effectiveAt?.postgres)
        append(Int16(clamping: offer.cacheHitTokenPercent))
        append(offer.streamLeave?.rawValue)
        append(Int32(clamping: offer.resultTTLSeconds))
        append(offer.requestTerms.cacheHit.rawValue)
        append(offer.requestTerms.failure.rawValue)
    }
}

struct InsertTierPrices: PostgresStatement {
    static let sql = """
        INSERT INTO tier_prices (tier_version_id, meter, model, price_model, unit_price, package_size)
        SELECT $1, p.meter, p.model, p.price_model, p.unit_price::numeric, nullif(p.package_size, -1)
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS p (meter, model, price_model, unit_price, package_size)
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .textArray, .textArray, .int8Array]

    let tierVersionID: TierVersionID
    let rules: [PriceRule]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(rules.map(\.meter.rawValue))
        binds.append(rules.map(\.model))
        binds.append(rules.map { $0.price.kind.rawValue })
        binds.append(rules.map { ($0.price.unitPrice ?? .free).description })
        binds.append(rules.map { $0.price.packageSize ?? -1 })
    }
}

struct InsertTierPriceBands: PostgresStatement {
    static let sql = """
        INSERT INTO tier_price_bands (tier_version_id, meter, model, band, up_to, unit_price)
        SELECT $1, b.meter, b.model, b.band, nullif(b.up_to, -1), b.unit_price::numeric
        FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[]) AS b (meter, model, band, up_to, unit_price)
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .int8Array, .int8Array, .textArray]

    let tierVersionID: TierVersionID
    let rules: [PriceRule]

    func bind(to binds: inout PostgresBinds) {
        let bands = rules.flatMap { rule in rule.price.bands.enumerated().map { (rule, $0.offset + 1, $0.element) } }
        binds.append(tierVersionID.postgres)
        binds.append(bands.map { $0.0.meter.rawValue })
        binds.append(bands.map { $0.0.model })
        binds.append(bands.map { Int64($0.1) })
        binds.append(bands.map { $0.2.upTo ?? -1 })
        binds.append(bands.map { $0.2.unitPrice.description })
    }
}

struct InsertTierMultipliers: PostgresStatement {
    static let sql = """
        INSERT INTO tier_multipliers (tier_version_id, meter, model, multiplier)
        SELECT $1, m.meter, m.model, m.multiplier::numeric
        FROM unnest($2::text[], $3::text[], $4::text[]) AS m (meter, model, multiplier)
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .textArray]

    let tierVersionID: TierVersionID
    let multipliers: [TierTerms.ModelMultiplier]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(multipliers.map(\.meter.rawValue))
        binds.append(multipliers.map(\.model))
        binds.append(multipliers.map(\.multiplier.description))
    }
}

struct InsertTierQuotas: PostgresStatement {
    static let sql = """
        INSERT INTO tier_quotas (tier_version_id, unit, frequency, amount, mode, alignment, thresholds_percent)
        SELECT $1, q.unit, q.frequency, q.amount, q.mode, q.alignment, string_to_array(q.thresholds, ',')::smallint[]
        FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[])
            AS q (unit, frequency, amount, mode, alignment, thresholds)
        """
    static let parameters: [PostgresType] = [
        .uuid, .textArray, .textArray, .int8Array, .textArray, .textArray, .textArray,
    ]

    let tierVersionID: TierVersionID
    let quotas: [QuotaRule]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(quotas.map(\.unit.rawValue))
        binds.append(quotas.map(\.frequency.rawValue))
        binds.append(quotas.map(\.amount))
        binds.append(quotas.map(\.mode.rawValue))
        binds.append(quotas.map(\.alignment.rawValue))
        binds.append(quotas.map(\.thresholds.text))
    }
}

/// Bands go with their prices.
struct DeleteTierPrices: PostgresStatement {
    static let sql = "DELETE FROM tier_prices WHERE tier_version_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(tierVersionID.postgres) }
}

struct DeleteTierMultipliers: PostgresStatement {
    static let sql = "DELETE FROM tier_multipliers WHERE tier_version_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(tierVersionID.postgres) }
}

struct DeleteTierQuotas: PostgresStatement {
    static let sql = "DELETE FROM tier_quotas WHERE tier_version_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(tierVersionID.postgres) }
}

struct DeleteTierRateLimits: PostgresStatement {
    static let sql = "DELETE FROM tier_rate_limits WHERE tier_version_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(tierVersionID.postgres) }
}

struct DeleteTierVersion: PostgresStatement {
    static let sql = "DELETE FROM tier_versions WHERE tier_version_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(tierVersionID.postgres) }
}
