internal import Domain
internal import PostgresDriver

struct FindBillingAccount: PostgresStatement {
    static let sql = "SELECT tenant_id, name, time_zone FROM tenants WHERE tenant_id = $1"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid, .text, .text]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BillingAccount {
        BillingAccount(tenantID: TenantID(try row.uuid()), name: try row.text(), timeZone: try row.text())
    }
}

/// The version of the stay in force.
struct FindCurrentVersion: PostgresStatement {
    static let sql = "SELECT tier_version_id FROM subscriptions WHERE tenant_id = $1 AND ends_at IS NULL"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierVersionID {
        TierVersionID(try row.uuid())
    }
}

struct ListBillingAccounts: PostgresStatement {
    static let sql = """
        SELECT tenant_id, name, time_zone FROM tenants WHERE $1::uuid IS NULL OR tenant_id > $1 ORDER BY tenant_id LIMIT $2
        """
    static let parameters: [PostgresType] = [.uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .text, .text]

    let after: TenantID?
    let limit: Int

    func bind(to binds: inout PostgresBinds) {
        binds.append(after?.postgres)
        binds.append(Int64(limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> BillingAccount {
        BillingAccount(tenantID: TenantID(try row.uuid()), name: try row.text(), timeZone: try row.text())
    }
}

/// Spans and usage of a tenant between two edges of usage, in one snapshot: what the watermark has passed comes from the roll-up, the rest
/// from the ledger.
///
/// Usage is of a trial where it is of a version that the tenant was on for trial in the same quarter of an hour: a trial ends on such an
/// edge, and where it ends early its last quarter is free to the end. The roll-up and the ledger must not answer that in two ways, so the
/// ledger's entries are asked by their quarter too.
///
/// The requests of the tail are looked up one by one: a plan that was made for an empty table would read a full one from its beginning to its end.
struct ReadRatingParts: PostgresStatement {
    struct Part: Sendable {
        let tierVersionID: TierVersionID
        let span: SubscriptionSpan?
        let usage: UsageQuantity?
        /// What was seen of the ledger.
        let seen: String
    }

    static let sql = """
        WITH stays AS MATERIALIZED (
            SELECT tier_version_id, starts_at, coalesce(ends_at, 'infinity') AS ends_at, coalesce(trial_ends_at, '-infinity') AS trial_ends_at
            FROM subscriptions WHERE tenant_id = $1 AND starts_at < $3 AND coalesce(ends_at, 'infinity') > $2
        ), tail AS MATERIALIZED (
            SELECT l.entry_id, usage_bucket(l.occurred_at) AS bucket_start, l.tier_version_id, l.model, l.requests, l.input_tokens,
                l.cached_input_tokens, l.output_tokens, l.kind = 'usage' AS is_usage, l.token_source = 'cache' AS is_hit, l.served_input_tokens,
                l.served_output_tokens, l.token_source
            FROM ledger l
            WHERE l.tenant_id = $1 AND l.occurred_at >= $2 AND l.occurred_at < $3 AND l.tx >= (SELECT position FROM rollup_watermark)
        ), parts AS (
            SELECT u.bucket_start, u.tier_version_id, u.model, u.requests_count AS requests, u.input_tokens, u.cached_input_tokens,
                u.output_tokens, 0::bigint AS hits, 0::bigint AS served_input_tokens, 0::bigint AS served_output_tokens,
                0::bigint AS hit_input_tokens, 0::bigint AS hit_cached_input_tokens, 0::bigint AS hit_output_tokens, 0::bigint AS left_streams,
                0::bigint AS drained_streams, 0::bigint AS drained_output_tokens, 0::bigint AS drained_delivered_tokens
            FROM usage u WHERE u.tenant_id = $1 AND u.bucket_start >= $2 AND u.bucket_start < $3
            UNION ALL
            SELECT t.bucket_start, t.tier_version_id, t.model, 0, 0, 0, 0, t.hits, t.served_input_tokens, t.served_output_tokens,
                t.hit_input_tokens, t.hit_cached_input_tokens, t.hit_output_tokens, t.left_streams, t.drained_streams, t.drained_output_tokens,
                t.drained_delivered_tokens
            FROM term_usage t WHERE t.tenant_id = $1 AND t.bucket_start >= $2 AND t.bucket_start < $3
            UNION ALL
            SELECT bucket_start, tier_version_id, model, requests, input_tokens, cached_input_tokens, output_tokens, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
            FROM tail
            UNION ALL
            SELECT bucket_start, tier_version_id, model, 0, 0, 0, 0, 1, served_input_tokens, served_output_tokens, input_tokens,
                cached_input_tokens, output_tokens, 0, 0, 0, 0
            FROM tail WHERE is_usage AND is_hit
            UNION ALL
            SELECT tail.bucket_start, tail.tier_version_id, tail.model, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, r.is_drained::integer,
                CASE WHEN r.is_drained THEN tail.output_tokens ELSE 0 END, CASE WHEN r.is_drained THEN r.delivered_tokens ELSE 0 END
            FROM tail CROSS JOIN LATERAL (
                SELECT is_drained_stream(stream_end, delivered_tokens, generated_tokens, estimated_tokens, tail.input_tokens,
                    tail.output_tokens) AS is_drained, delivered_tokens
                FROM requests WHERE request_id = tail.entry_id AND is_left_stream(stream_end, tail.token_source, tail.input_tokens) LIMIT 1
            ) r
            WHERE tail.is_usage
        ), used AS (
            SELECT EXISTS (
                    SELECT FROM stays s WHERE s.tier_version_id = p.tier_version_id AND p.bucket_start >= usage_bucket(s.starts_at)
                        AND p.bucket_start < s.ends_at AND p.bucket_start < s.trial_ends_at) AS is_trial,
                p.*
            FROM parts p
        )
        SELECT tier_version_id, false, NULL::text, greatest(starts_at, trial_ends_at, $2), least(ends_at, $3), pg_current_snapshot()::text, 0::bigint,
            0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
            0::bigint
        FROM stays WHERE greatest(starts_at, trial_ends_at, $2) < least(ends_at, $3)
        UNION ALL
        SELECT tier_version_id, true, NULL, greatest(starts_at, $2), least(ends_at, trial_ends_at, $3),
            pg_current_snapshot()::text, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM stays WHERE greatest(starts_at, $2) < least(ends_at, trial_ends_at, $3)
        UNION ALL
        SELECT tier_version_id, is_trial, model, NULL, NULL, pg_current_snapshot()::text, sum(requests)::bigint,
            sum(input_tokens)::bigint, sum(cached_input_tokens)::bigint, sum(output_tokens)::bigint, sum(hits)::bigint,
            sum(served_input_tokens)::bigint, sum(served_output_tokens)::bigint, sum(hit_input_tokens)::bigint,
            sum(hit_cached_input_tokens)::bigint, sum(hit_output_tokens)::bigint, sum(left_streams)::bigint, sum(drained_streams)::bigint,
            sum(drained_output_tokens)::bigint, sum(drained_delivered_tokens)::bigint
        FROM used GROUP BY 1, 2, 3
        ORDER BY 4 NULLS LAST, 1, 3, 2
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [
        .uuid, .bool, .text, .timestamptz, .timestamptz, .text, .int8, .int8, .int8, .int8, .int8, .int8, .int8, .int8,
        .int8,
        .int8, .int8, .int8, .int8, .int8,
    ]

    let tenantID: TenantID
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Part {
        let version = TierVersionID(try row.uuid())
        let isTrial = try row.bool()
        let model = try row.optionalText()
        let start = try row.optionalTimestamp()
        let end = try row.optionalTimestamp()
        let seen = try row.text()
        if let start, let end {
            let span = SubscriptionSpan(
                tierVersionID: version, start: Timestamp(start), end: Timestamp(end), isTrial: isTrial)
            return Part(tierVersionID: version, span: span, usage: nil, seen: seen)
        }
        let usage = UsageQuantity(
            tierVersionID: version, isTrial: isTrial, model: model ?? "", requests: try row.int64(),
            inputTokens: try row.int64(), cachedInputTokens: try row.int64(), outputTokens: try row.int64(),
            termed: TermedUsage(
                hits: try row.int64(), servedInputTokens: try row.int64(), servedOutputTokens: try row.int64(),
                hitInputTokens: try row.int64(), hitCachedInputTokens: try row.int64(),
                hitOutputTokens: try row.int64(), leftStreams: try row.int64(), drainedStreams: try row.int64(),
                drainedOutputTokens: try row.int64(), drainedDeliveredTokens: try row.int64()))
        return Part(tierVersionID: version, span: nil, usage: usage, seen: seen)
    }
}

struct ReadTermsHeads: PostgresStatement {
    struct Head: Sendable {
        let tierVersionID: TierVersionID
        let tierCode: String
        let version: Int32
        let currency: String
        let baseFee: Micros
        let minimumCommitment: Micros
        let includedRequests: Int64
        let includedTokens: Int64
        let cacheHitTokenPercent: Int64
        let streamLeave: StreamLeave?
        let requestTerms: RequestTerms
    }

    static let sql = """
        SELECT tier_version_id, tier_code, version, currency, base_fee_micros, minimum_commitment_micros, included_requests, included_tokens,
            cache_hit_token_percent, stream_leave, cache_hit_request, failed_request
        FROM tier_versions WHERE tier_version_id = ANY ($1)
        """
    static let parameters: [PostgresType] = [.uuidArray]
    static let columns: [PostgresType] = [
        .uuid, .text, .int4, .text, .int8, .int8, .int8, .int8, .int2, .text, .text, .text,
    ]

    let versions: [TierVersionID]

    func bind(to binds: inout PostgresBinds) { binds.append(versions.map(\.postgres)) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Head {
        Head(
            tierVersionID: TierVersionID(try row.uuid()), tierCode: try row.text(), version: try row.int32(),
            currency: try row.text(), baseFee: Micros(try row.int64()), minimumCommitment: Micros(try row.int64()),
            includedRequests: try row.int64(), includedTokens: try row.int64(),
            cacheHitTokenPercent: Int64(try row.int16()),
            streamLeave: try row.optionalText().flatMap { StreamLeave(rawValue: $0) },
            requestTerms: try requestTerms(&row))
    }
}

/// Prices with their bands in order.
struct ReadTermsPrices: PostgresStatement {
    struct Entry: Sendable {
        let tierVersionID: TierVersionID
        let rule: PriceRule
    }

    static let sql = """
        SELECT p.tier_version_id, p.meter, p.model, p.price_model, p.unit_price::text, p.package_size,
            array_agg(coalesce(b.up_to, 0) ORDER BY b.band), array_agg(coalesce(b.unit_price, 0)::text ORDER BY b.band)
        FROM tier_prices p
        LEFT JOIN tier_price_bands b ON b.tier_version_id = p.tier_version_id AND b.meter = p.meter AND b.model = p.model
        WHERE p.tier_version_id = ANY ($1)
        GROUP BY p.tier_version_id, p.meter, p.model
        ORDER BY 1, 2, 3
        """
    static let parameters: [PostgresType] = [.uuidArray]
    static let columns: [PostgresType] = [.uuid, .text, .text, .text, .text, .int8, .int8Array, .textArray]

    let versions: [TierVersionID]

    func bind(to binds: inout PostgresBinds) { binds.append(versions.map(\.postgres)) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let version = TierVersionID(try row.uuid())
        guard let meter = Meter(rawValue: try row.text()) else { throw row.failure(1, "is no meter") }
        let model = try row.text()
        let priceModel = try row.text()
        // A price that this build cannot read must not turn into a free one.
        guard let unitPrice = UnitPrice(decimal: try row.text()) else { throw row.failure(4, "is no unit price") }
        let size = try row.optionalInt64()
        let ends = try row.array(of: Int64.self)
        let prices = try row.array(of: String.self)
        var bands: [PriceBand] = []
        for (end, price) in zip(ends, prices) {
            guard let price = UnitPrice(decimal: price) else { throw row.failure(7, "are no unit prices") }
            bands.append(PriceBand(upTo: end == 0 ? nil : end, unitPrice: price))
        }
        let price: PriceModel
        switch priceModel {
        case "flat": price = .flat(unitPrice)
        case "graduated": price = .graduated(bands)
        case "volume": price = .volume(bands)
        case "package": price = .package(size: size ?? 0, price: unitPrice)
        default: throw row.failure(3, "is no price model that this build can read")
        }
        guard price.isWellFormed else { throw row.failure(6, "are no bands that follow one another") }
        return Entry(tierVersionID: version, rule: PriceRule(meter: meter, model: model, price: price))
    }
}

struct ReadTermsMultipliers: PostgresStatement {
    struct Entry: Sendable {
        let tierVersionID: TierVersionID
        let multiplier: TierTerms.ModelMultiplier
    }

    static let sql = """
        SELECT tier_version_id, meter, model, multiplier::text FROM tier_multipliers WHERE tier_version_id = ANY ($1) ORDER BY 1, 2, 3
        """
    static let parameters: [PostgresType] = [.uuidArray]
    static let columns: [PostgresType] = [.uuid, .text, .text, .text]

    let versions: [TierVersionID]

    func bind(to binds: inout PostgresBinds) { binds.append(versions.map(\.postgres)) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let version = TierVersionID(try row.uuid())
        guard let meter = Meter(rawValue: try row.text()) else { throw row.failure(1, "is no meter") }
        let model = try row.text()
        guard let multiplier = Multiplier(decimal: try row.text()) else { throw row.failure(3, "is no multiplier") }
        return Entry(
            tierVersionID: version,
            multiplier: TierTerms.ModelMultiplier(meter: meter, model: model, multiplier: multiplier))
    }
}
