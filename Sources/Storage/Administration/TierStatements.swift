internal import Domain
internal import PostgresDriver

private let tierColumns: [PostgresType] =
    [
        .text, .text, .timestamptz, .uuid, .int4, .text, .text, .int8, .timestamptz, .textArray, .textArray, .textArray,
        .textArray,
        .textArray, .int8Array, .textArray, .textArray, .textArray,
    ] + rateLimitColumns + [.int2, .text, .int4]

private func tierRow(_ row: inout PostgresRow) throws(PostgresError) -> TierRow {
    let code = try row.text()
    let name = try row.text()
    let createdAt = Timestamp(try row.timestamp())
    let id = TierVersionID(try row.uuid())
    let number = try row.int32()
    guard let state = TierRow.State(rawValue: try row.text()) else {
        throw row.failure(5, "is no state of a tier version")
    }
    let currency = try row.text()
    let baseFee = Micros(try row.int64())
    let versionCreatedAt = Timestamp(try row.timestamp())
    let prices = try prices(&row)
    let quotas = try quotas(&row)
    let rateLimits = try rateLimitRules(&row)
    return TierRow(
        code: code, name: name,
        version: TierRow.Version(
            id: id, number: number, state: state, currency: currency, baseFee: baseFee, prices: prices,
            quotas: quotas, rateLimits: rateLimits, cacheHitTokenPercent: Int64(try row.int16()),
            streamLeave: try row.optionalText().flatMap { StreamLeave(rawValue: $0) },
            resultTTLSeconds: Int64(try row.int32()), createdAt: versionCreatedAt),
        createdAt: createdAt)
}

private func prices(_ row: inout PostgresRow) throws(PostgresError) -> [PriceSheet.Price] {
    let meters = try row.array(of: String.self)
    let models = try row.array(of: String.self)
    let unitPrices = try row.array(of: String.self)
    var prices: [PriceSheet.Price] = []
    for index in meters.indices {
        guard let meter = Meter(rawValue: meters[index]), let unitPrice = UnitPrice(decimal: unitPrices[index]) else {
            throw row.failure(9, "holds a price that this build cannot read")
        }
        prices.append(PriceSheet.Price(meter: meter, model: models[index], unitPrice: unitPrice))
    }
    return prices
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
        else { throw row.failure(12, "holds a quota that this build cannot read") }
        quotas.append(
            QuotaRule(
                unit: unit, frequency: frequency, amount: amounts[index], mode: mode, alignment: alignment,
                thresholds: marks))
    }
    return quotas
}

/// Tiers with the version that a new tenant would get. A tier of drafts alone is not shown: nobody can subscribe to it.
struct ListTiers: PostgresStatement {
    static let sql = """
        WITH known AS (
            SELECT t.code FROM tiers t WHERE EXISTS (SELECT FROM tier_versions v WHERE v.tier_code = t.code AND v.state <> 'draft')
        ), page AS (
            (SELECT code FROM known WHERE $2::text IS NULL AND ($1::text IS NULL OR code > $1) ORDER BY code LIMIT $3)
            UNION ALL
            (SELECT code FROM known WHERE code < $2::text ORDER BY code DESC LIMIT $3)
        )
        SELECT t.code, t.name, t.created_at, v.tier_version_id, v.version, v.state, v.currency, v.base_fee_micros, v.created_at,
            p.meters, p.models, p.unit_prices, q.units, q.frequencies, q.amounts, q.modes,
            q.alignments, q.thresholds, l.scopes, l.units, l.amounts, l.bursts, v.cache_hit_token_percent, v.stream_leave,
            v.result_ttl_seconds
        FROM page JOIN tiers t ON t.code = page.code
        CROSS JOIN LATERAL (
            SELECT * FROM tier_versions v WHERE v.tier_code = t.code AND v.state <> 'draft'
            ORDER BY v.state = 'published' DESC, v.version DESC LIMIT 1
        ) v
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
                coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
                coalesce(array_agg(unit_price::text ORDER BY meter, model), '{}') AS unit_prices
            FROM tier_prices WHERE tier_version_id = v.tier_version_id
        ) p
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(unit ORDER BY unit, frequency), '{}') AS units,
                coalesce(array_agg(frequency ORDER BY unit, frequency), '{}') AS frequencies,
                coalesce(array_agg(amount ORDER BY unit, frequency), '{}') AS amounts,
                coalesce(array_agg(mode ORDER BY unit, frequency), '{}') AS modes,
                coalesce(array_agg(alignment ORDER BY unit, frequency), '{}') AS alignments,
                coalesce(array_agg(array_to_string(thresholds_percent, ',') ORDER BY unit, frequency), '{}') AS thresholds
            FROM tier_quotas WHERE tier_version_id = v.tier_version_id
        ) q
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
                coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
                coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
                coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
            FROM tier_rate_limits WHERE tier_version_id = v.tier_version_id
        ) l
        ORDER BY t.code
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns = tierColumns

    let page: PageRequest<String>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

struct FindTier: PostgresStatement {
    static let sql = """
        SELECT t.code, t.name, t.created_at, v.tier_version_id, v.version, v.state, v.currency, v.base_fee_micros, v.created_at,
            p.meters, p.models, p.unit_prices, q.units, q.frequencies, q.amounts, q.modes,
            q.alignments, q.thresholds, l.scopes, l.units, l.amounts, l.bursts, v.cache_hit_token_percent, v.stream_leave,
            v.result_ttl_seconds
        FROM tiers t
        CROSS JOIN LATERAL (
            SELECT * FROM tier_versions v WHERE v.tier_code = t.code AND v.state <> 'draft'
            ORDER BY v.state = 'published' DESC, v.version DESC LIMIT 1
        ) v
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
                coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
                coalesce(array_agg(unit_price::text ORDER BY meter, model), '{}') AS unit_prices
            FROM tier_prices WHERE tier_version_id = v.tier_version_id
        ) p
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(unit ORDER BY unit, frequency), '{}') AS units,
                coalesce(array_agg(frequency ORDER BY unit, frequency), '{}') AS frequencies,
                coalesce(array_agg(amount ORDER BY unit, frequency), '{}') AS amounts,
                coalesce(array_agg(mode ORDER BY unit, frequency), '{}') AS modes,
                coalesce(array_agg(alignment ORDER BY unit, frequency), '{}') AS alignments,
                coalesce(array_agg(array_to_string(thresholds_percent, ',') ORDER BY unit, frequency), '{}') AS thresholds
            FROM tier_quotas WHERE tier_version_id = v.tier_version_id
        ) q
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
                coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
                coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
                coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
            FROM tier_rate_limits WHERE tier_version_id = v.tier_version_id
        ) l
        WHERE t.code = $1
        """
    static let parameters: [PostgresType] = [.text]
    static let columns = tierColumns

    let code: String

    func bind(to binds: inout PostgresBinds) { binds.append(code) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierRow { try tierRow(&row) }
}

/// Changes no row where the code is taken.
struct InsertTier: PostgresStatement {
    static let sql = "INSERT INTO tiers (code, name) VALUES ($1, $2) ON CONFLICT (code) DO NOTHING"
    static let parameters: [PostgresType] = [.text, .text]

    let tier: NewTier

    func bind(to binds: inout PostgresBinds) {
        binds.append(tier.code)
        binds.append(tier.name)
    }
}

struct InsertTierVersion: PostgresStatement {
    static let sql = """
        INSERT INTO tier_versions (tier_version_id, tier_code, version, currency, base_fee_micros, cache_hit_token_percent,
            stream_leave, result_ttl_seconds)
        VALUES ($1, $2, 1, $3, $4, $5, $6, $7)
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text, .int8, .int2, .text, .int4]

    let id: TierVersionID
    let tier: NewTier

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tier.code)
        binds.append(tier.currency)
        binds.append(tier.baseFee.value)
        binds.append(Int16(clamping: tier.cacheHitTokenPercent))
        binds.append(tier.streamLeave?.rawValue)
        binds.append(Int32(clamping: tier.resultTTLSeconds))
    }
}

struct InsertTierPrices: PostgresStatement {
    static let sql = """
        INSERT INTO tier_prices (tier_version_id, meter, model, unit_price)
        SELECT $1, p.meter, p.model, p.unit_price::numeric
        FROM unnest($2::text[], $3::text[], $4::text[]) AS p (meter, model, unit_price)
        """
    static let parameters: [PostgresType] = [.uuid, .textArray, .textArray, .textArray]

    let tierVersionID: TierVersionID
    let prices: [PriceSheet.Price]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(prices.map(\.meter.rawValue))
        binds.append(prices.map(\.model))
        binds.append(prices.map(\.unitPrice.description))
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

struct PublishTierVersion: PostgresStatement {
    static let sql = """
        UPDATE tier_versions SET state = 'published', published_at = clock_timestamp() WHERE tier_version_id = $1 AND state = 'draft'
        """
    static let parameters: [PostgresType] = [.uuid]

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// A tier version as the audit log keeps it. Prices are text: a reader of JSON would make floating point of them.
struct DescribeTierVersion: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('code', t.code, 'name', t.name, 'price_version', v.tier_version_id, 'version', v.version,
            'state', v.state, 'currency', v.currency, 'base_fee_micros', v.base_fee_micros,
            'cache_hit_token_percent', v.cache_hit_token_percent, 'stream_leave', v.stream_leave,
            'result_ttl_seconds', v.result_ttl_seconds,
            'prices', (SELECT coalesce(jsonb_agg(jsonb_build_object('meter', p.meter, 'model', p.model,
                'unit_price', p.unit_price::text) ORDER BY p.meter, p.model), '[]')
                FROM tier_prices p WHERE p.tier_version_id = v.tier_version_id),
            'quotas', (SELECT coalesce(jsonb_agg(jsonb_build_object('unit', q.unit, 'frequency', q.frequency, 'amount', q.amount,
                'mode', q.mode, 'alignment', q.alignment, 'thresholds_percent', q.thresholds_percent) ORDER BY q.unit, q.frequency), '[]')
                FROM tier_quotas q WHERE q.tier_version_id = v.tier_version_id),
            'rate_limits', (SELECT coalesce(jsonb_agg(jsonb_build_object('scope', l.scope, 'unit', l.unit, 'amount', l.amount,
                'burst', l.burst) ORDER BY l.scope, l.unit), '[]')
                FROM tier_rate_limits l WHERE l.tier_version_id = v.tier_version_id))
        FROM tier_versions v JOIN tiers t ON t.code = v.tier_code
        WHERE v.tier_version_id = $1
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.jsonb]

    let id: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
