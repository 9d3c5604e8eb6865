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
            m.cache_enabled, m.cache_ttl_seconds, m.cache_maximum_ttl_seconds, m.cache_sameness, m.cache_levels, m.cache_generations
        FROM page JOIN model_registry m USING (model_name)
        ORDER BY model_name
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns: [PostgresType] = [.text, .text, .int4, .int8, .int8, .text, .int4] + CachePolicy.columns

    let page: PageRequest<String>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelProfile {
        ModelProfile(
            name: try row.text(), version: try row.text(), featureCount: try row.optionalInt32().map { Int($0) },
            fixedTokensPerRequest: try row.int64(), maximumOutputTokens: try row.int64(),
            tokenCounting: TokenCounting(rawValue: try row.text()) ?? .worker, bytesPerToken: Int64(try row.int32()),
            cache: try CachePolicy(from: &row))
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
            'token_counting', token_counting, 'bytes_per_token', bytes_per_token, 'cache', CASE WHEN cache_enabled IS NOT NULL THEN
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
        SELECT model_name, version, feature_count, fixed_tokens_per_request, maximum_output_tokens, token_counting, bytes_per_token,
            cache_enabled, cache_ttl_seconds, cache_maximum_ttl_seconds, cache_sameness, cache_levels, cache_generations
        FROM model_registry WHERE model_name = $1 AND is_active
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
