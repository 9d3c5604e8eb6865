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
        SELECT model_name, m.version, m.feature_count, m.fixed_tokens_per_request, m.maximum_output_tokens,
            m.token_counting, m.bytes_per_token,
            m.delivery_balancing, m.delivery_safe_to_repeat, m.delivery_probe_path, m.delivery_replica_concurrency,
            m.delivery_queue_depth, m.delivery_queue_wait_ms, m.delivery_connect_ms, m.delivery_first_byte_ms,
            m.delivery_total_ms, m.delivery_attempts, m.delivery_hedge_after_ms, m.delivery_retry_percent,
            m.delivery_breaker_failures, m.delivery_breaker_percent, m.delivery_breaker_open_ms,
            m.delivery_slow_start_ms, m.delivery_probe_interval_ms, m.delivery_probe_timeout_ms
        FROM page JOIN model_registry m USING (model_name)
        ORDER BY model_name
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns: [PostgresType] = ModelColumns.types + DeliveryColumns.types

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

/// What a statement says of a model: its columns and behind them those of its delivery.
enum ModelColumns {
    static let types: [PostgresType] = [.text, .text, .int4, .int8, .int8, .text, .int4]

    static func read(from row: inout PostgresRow) throws(PostgresError) -> ModelProfile {
        ModelProfile(
            name: try row.text(), version: try row.text(), featureCount: try row.optionalInt32().map { Int($0) },
            fixedTokensPerRequest: try row.int64(), maximumOutputTokens: try row.int64(),
            tokenCounting: TokenCounting(rawValue: try row.text()) ?? .worker, bytesPerToken: Int64(try row.int32()),
            delivery: try DeliveryColumns.read(from: &row))
    }
}

/// Says how a model's replicas are called, whole: what is not given is the default again.
struct SetDelivery: PostgresStatement {
    static let sql = """
        UPDATE model_registry m SET
            delivery_balancing = $2, delivery_safe_to_repeat = $3, delivery_probe_path = $4,
            delivery_replica_concurrency = $5, delivery_queue_depth = $6, delivery_queue_wait_ms = $7,
            delivery_connect_ms = $8, delivery_first_byte_ms = $9, delivery_total_ms = $10, delivery_attempts = $11,
            delivery_hedge_after_ms = $12, delivery_retry_percent = $13, delivery_breaker_failures = $14,
            delivery_breaker_percent = $15, delivery_breaker_open_ms = $16, delivery_slow_start_ms = $17,
            delivery_probe_interval_ms = $18, delivery_probe_timeout_ms = $19,
            updated_at = now()
        WHERE model_name = $1 AND is_active
        RETURNING model_name, m.version, m.feature_count, m.fixed_tokens_per_request, m.maximum_output_tokens,
            m.token_counting, m.bytes_per_token,
            m.delivery_balancing, m.delivery_safe_to_repeat, m.delivery_probe_path, m.delivery_replica_concurrency,
            m.delivery_queue_depth, m.delivery_queue_wait_ms, m.delivery_connect_ms, m.delivery_first_byte_ms,
            m.delivery_total_ms, m.delivery_attempts, m.delivery_hedge_after_ms, m.delivery_retry_percent,
            m.delivery_breaker_failures, m.delivery_breaker_percent, m.delivery_breaker_open_ms,
            m.delivery_slow_start_ms, m.delivery_probe_interval_ms, m.delivery_probe_timeout_ms
        """
    static let parameters: [PostgresType] = [.text] + DeliveryColumns.types
    static let columns: [PostgresType] = ModelColumns.types + DeliveryColumns.types

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
                'probe_timeout_ms', delivery_probe_timeout_ms)))
        FROM model_registry WHERE model_name = $1
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
