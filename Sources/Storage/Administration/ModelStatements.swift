internal import Domain
internal import PostgresDriver

struct ListModels: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT model_name FROM model_registry
            WHERE is_active AND $2::text IS NULL AND ($1::text IS NULL OR model_name > $1) ORDER BY model_name LIMIT $3)
            UNION ALL
            (SELECT model_name FROM model_registry WHERE is_active AND model_name < $2::text ORDER BY model_name DESC LIMIT $3)
        )
        SELECT \(ModelColumns.names)
        FROM page JOIN model_registry m ON m.model_name = page.model_name
        ORDER BY m.model_name
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns = ModelColumns.types

    let page: PageRequest<String>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelProfile {
        try ModelColumns.read(from: &row)
    }
}

/// What a statement says of a model `m`: its own columns, those of its delivery, those of its cache. A constant: no value goes into a text.
enum ModelColumns {
    static let names = """
        m.model_name, m.version, m.feature_count, m.fixed_tokens_per_request, m.maximum_output_tokens, m.token_counting, m.bytes_per_token,
        m.delivery_balancing, m.delivery_safe_to_repeat, m.delivery_probe_path, m.delivery_stream_leave, m.delivery_replica_concurrency,
        m.delivery_queue_depth, m.delivery_queue_wait_ms, m.delivery_connect_ms, m.delivery_first_byte_ms,
        m.delivery_total_ms, m.delivery_attempts, m.delivery_hedge_after_ms, m.delivery_retry_percent,
        m.delivery_breaker_failures, m.delivery_breaker_percent, m.delivery_breaker_open_ms,
        m.delivery_slow_start_ms, m.delivery_probe_interval_ms, m.delivery_probe_timeout_ms, m.delivery_stream_gap_ms,
        m.delivery_stream_total_ms,
        m.cache_enabled, m.cache_ttl_seconds, m.cache_maximum_ttl_seconds, m.cache_sameness, m.cache_levels, m.cache_generations
        """
    static let types: [PostgresType] =
        [.text, .text, .int4, .int8, .int8, .text, .int4] + DeliveryColumns.types + CachePolicy.columns

    static func read(from row: inout PostgresRow) throws(PostgresError) -> ModelProfile {
        ModelProfile(
            name: try row.text(), version: try row.text(), featureCount: try row.optionalInt32().map { Int($0) },
            fixedTokensPerRequest: try row.int64(), maximumOutputTokens: try row.int64(),
            tokenCounting: TokenCounting(rawValue: try row.text()) ?? .worker, bytesPerToken: Int64(try row.int32()),
            delivery: try DeliveryColumns.read(from: &row), cache: try CachePolicy(from: &row))
    }
}

/// Says how a model's replicas are called, whole: what is not given is the default again.
struct SetDelivery: PostgresStatement {
    static let sql = """
        UPDATE model_registry m SET
            delivery_balancing = $2, delivery_safe_to_repeat = $3, delivery_probe_path = $4, delivery_stream_leave = $5,
            delivery_replica_concurrency = $6, delivery_queue_depth = $7, delivery_queue_wait_ms = $8,
            delivery_connect_ms = $9, delivery_first_byte_ms = $10, delivery_total_ms = $11, delivery_attempts = $12,
            delivery_hedge_after_ms = $13, delivery_retry_percent = $14, delivery_breaker_failures = $15,
            delivery_breaker_percent = $16, delivery_breaker_open_ms = $17, delivery_slow_start_ms = $18,
            delivery_probe_interval_ms = $19, delivery_probe_timeout_ms = $20, delivery_stream_gap_ms = $21,
            delivery_stream_total_ms = $22,
            updated_at = now()
        WHERE m.model_name = $1 AND m.is_active
        RETURNING \(ModelColumns.names)
        """
    static let parameters: [PostgresType] = [.text] + DeliveryColumns.types
    static let columns = ModelColumns.types

    let model: String
    let settings: DeliverySettings

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        DeliveryColumns.bind(settings, to: &binds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelProfile {
        try ModelColumns.read(from: &row)
    }
}

/// Changes no row where the name is taken.
struct InsertModel: PostgresStatement {
    static let sql = """
        INSERT INTO model_registry (model_name, version, feature_count, fixed_tokens_per_request, maximum_output_tokens,
            token_counting, bytes_per_token)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (model_name) DO NOTHING
        """
    static let parameters: [PostgresType] = [.text, .text, .int4, .int8, .int8, .text, .int4]

    let model: ModelProfile

    func bind(to binds: inout PostgresBinds) {
        binds.append(model.name)
        binds.append(model.version)
        binds.append(model.featureCount.map { Int32(clamping: $0) })
        binds.append(model.fixedTokensPerRequest)
        binds.append(model.maximumOutputTokens)
        binds.append(model.tokenCounting.rawValue)
        binds.append(Int32(clamping: model.bytesPerToken))
    }
}

/// Keeps two changes of one model's route apart.
struct LockModel: PostgresStatement {
    static let sql = "SELECT model_name FROM model_registry WHERE model_name = $1 AND is_active FOR UPDATE"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

struct DescribeModel: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('name', model_name, 'version', version, 'feature_count', feature_count,
            'fixed_tokens_per_request', fixed_tokens_per_request, 'maximum_output_tokens', maximum_output_tokens,
            'token_counting', token_counting, 'bytes_per_token', bytes_per_token,
            'delivery', jsonb_strip_nulls(jsonb_build_object(
                'balancing', delivery_balancing,
                'safe_to_repeat', delivery_safe_to_repeat,
                'probe_path', delivery_probe_path,
                'replica_concurrency', delivery_replica_concurrency,
                'queue_depth', delivery_queue_depth,
                'queue_wait_ms', delivery_queue_wait_ms,
                'connect_ms', delivery_connect_ms,
                'first_byte_ms', delivery_first_byte_ms,
                'total_ms', delivery_total_ms,
                'attempts', delivery_attempts,
                'hedge_after_ms', delivery_hedge_after_ms,
                'retry_percent', delivery_retry_percent,
                'breaker_failures', delivery_breaker_failures,
                'breaker_percent', delivery_breaker_percent,
                'breaker_open_ms', delivery_breaker_open_ms,
                'slow_start_ms', delivery_slow_start_ms,
                'probe_interval_ms', delivery_probe_interval_ms,
                'probe_timeout_ms', delivery_probe_timeout_ms,
                'stream_leave', delivery_stream_leave,
                'stream_gap_ms', delivery_stream_gap_ms,
                'stream_total_ms', delivery_stream_total_ms)),
            'cache', CASE WHEN cache_enabled IS NOT NULL THEN
                jsonb_build_object('enabled', cache_enabled, 'ttl_seconds', cache_ttl_seconds,
                    'maximum_ttl_seconds', cache_maximum_ttl_seconds, 'sameness', cache_sameness, 'levels', cache_levels,
                    'generations', cache_generations) END)
        FROM model_registry WHERE model_name = $1
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}

struct FindModel: PostgresStatement {
    static let sql = """
        SELECT \(ModelColumns.names)
        FROM model_registry m WHERE m.model_name = $1 AND m.is_active
        """
    static let parameters: [PostgresType] = [.text]
    static let columns = ListModels.columns

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelProfile {
        try ListModels.row(from: &row)
    }
}

/// Changes no row for a model that is not registered.
struct SetCachePolicy: PostgresStatement {
    static let sql = """
        UPDATE model_registry SET cache_enabled = $2, cache_ttl_seconds = $3, cache_maximum_ttl_seconds = $4, cache_sameness = $5,
            cache_levels = $6, cache_generations = $7, updated_at = clock_timestamp()
        WHERE model_name = $1 AND is_active
        """
    static let parameters: [PostgresType] = [.text, .bool, .int4, .int4, .text, .textArray, .text]

    let model: String
    let policy: CachePolicy

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(policy.isOn)
        binds.append(policy.ttlSeconds.map { Int32(clamping: $0) })
        binds.append(policy.maximumTTLSeconds.map { Int32(clamping: $0) })
        binds.append(policy.sameness.rawValue)
        binds.append(policy.levels.names)
        binds.append(policy.generations.rawValue)
    }
}

extension CachePolicy {
    /// Of the registry, in their order.
    static let columns: [PostgresType] = [.bool, .int4, .int4, .text, .textArray, .text]

    /// Reads ``columns``. What was never said is the default; a word that this build does not know turns the cache off, because it may have
    /// been meant to forbid something.
    init(from row: inout PostgresRow) throws(PostgresError) {
        let isOn = try row.optionalBool() ?? false
        let ttlSeconds = try row.optionalInt32().map(Int64.init)
        let maximum = try row.optionalInt32().map(Int64.init)
        let standard = CachePolicy.off
        let sameness = try row.optionalText().map { Sameness(rawValue: $0) } ?? standard.sameness
        let levels = try row.optionalArray(of: String.self).map { Levels(names: $0) } ?? standard.levels
        let generations = try row.optionalText().map { Generations(rawValue: $0) } ?? standard.generations
        guard let sameness, let levels, let generations else {
            self = .off
            return
        }
        self.init(
            isOn: isOn, ttlSeconds: ttlSeconds, maximumTTLSeconds: maximum, sameness: sameness, levels: levels,
            generations: generations)
    }
}
