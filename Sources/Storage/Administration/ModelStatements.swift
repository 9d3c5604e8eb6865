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
            m.token_counting, m.bytes_per_token
        FROM page JOIN model_registry m USING (model_name)
        ORDER BY model_name
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns: [PostgresType] = [.text, .text, .int4, .int8, .int8, .text, .int4]

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
            tokenCounting: TokenCounting(rawValue: try row.text()) ?? .worker, bytesPerToken: Int64(try row.int32()))
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
            'token_counting', token_counting, 'bytes_per_token', bytes_per_token)
        FROM model_registry WHERE model_name = $1
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
