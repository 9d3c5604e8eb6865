internal import Domain
internal import PostgresDriver

/// One name must not become a model's and an alias's at once; whoever makes either waits for the other.
struct LockModelNames: PostgresStatement {
    static let sql = "SELECT pg_advisory_xact_lock(hashtext('weir.model_names'))"
}

struct FindModelRouting: PostgresStatement {
    static let sql = """
        SELECT m.model_name,
            \(RoutingPart.columns)
        FROM model_registry m
        \(RoutingPart.joins)
        WHERE m.model_name = $1 AND m.is_active
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text] + RoutingPart.types

    let model: String

    func bind(to binds: inout PostgresBinds) { binds.append(model) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelRoutingRow {
        let model = try row.text()
        return try RoutingPart.read(&row, of: model)
    }
}

struct UpdateModelRouting: PostgresStatement {
    static let sql = """
        UPDATE model_registry SET default_version = $2, sticky_by = $3, mirror_model = $4, mirror_version = $5,
            mirror_share = $6, updated_at = now()
        WHERE model_name = $1
        """
    static let parameters: [PostgresType] = [.text, .text, .text, .text, .text, .int4]

    let model: String
    let rules: RoutingRules

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(rules.defaultVersion)
        binds.append(rules.stickiness.text)
        binds.append(rules.mirror?.model)
        binds.append(rules.mirror?.version)
        binds.append(rules.mirror.map { Int32(clamping: $0.share) })
    }
}

/// Gives every version of a model its weight, and none to those that are not named.
struct SetWeights: PostgresStatement {
    static let sql = """
        UPDATE model_versions v
        SET weight = (SELECT s.weight FROM unnest($2::text[], $3::integer[]) AS s (version, weight) WHERE s.version = v.version),
            updated_at = now()
        WHERE v.model_name = $1
        """
    static let parameters: [PostgresType] = [.text, .textArray, .int4Array]

    let model: String
    let shares: [TrafficSplit.Share]

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(shares.map(\.version))
        binds.append(shares.map { Int32(clamping: $0.weight) })
    }
}

struct UpsertModelVersion: PostgresStatement {
    static let sql = """
        INSERT INTO model_versions (model_name, version, state, feature_count, fixed_tokens_per_request, maximum_output_tokens,
            token_counting, bytes_per_token)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (model_name, version) DO UPDATE
        SET state = excluded.state, feature_count = excluded.feature_count,
            fixed_tokens_per_request = excluded.fixed_tokens_per_request,
            maximum_output_tokens = excluded.maximum_output_tokens, token_counting = excluded.token_counting,
            bytes_per_token = excluded.bytes_per_token, updated_at = now()
        """
    static let parameters: [PostgresType] = [.text, .text, .text, .int4, .int8, .int8, .text, .int4]

    let model: String
    let version: ModelVersion

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(version.name)
        binds.append(version.state.rawValue)
        binds.append(version.overrides.featureCount.map { Int32(clamping: $0) })
        binds.append(version.overrides.fixedTokensPerRequest)
        binds.append(version.overrides.maximumOutputTokens)
        binds.append(version.overrides.tokenCounting?.rawValue)
        binds.append(version.overrides.bytesPerToken.map { Int32(clamping: $0) })
    }
}

/// Whether something sends requests to a version by its name, so that it cannot be retired.
struct IsVersionInUse: PostgresStatement {
    static let sql = """
        SELECT EXISTS (SELECT FROM model_registry WHERE model_name = $1 AND default_version = $2)
            OR EXISTS (SELECT FROM model_versions WHERE model_name = $1 AND version = $2 AND weight > 0)
            OR EXISTS (SELECT FROM model_aliases WHERE model_name = $1 AND version = $2)
            OR EXISTS (
                SELECT FROM model_registry WHERE coalesce(mirror_model, model_name) = $1 AND mirror_version = $2)
        """
    static let parameters: [PostgresType] = [.text, .text]
    static let columns: [PostgresType] = [.bool]

    let model: String
    let version: String

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(version)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

/// A model's routing as the audit log keeps it.
struct DescribeModelRouting: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('default_version', m.default_version, 'sticky_by', m.sticky_by,
            'mirror', CASE WHEN m.mirror_share IS NULL THEN NULL ELSE jsonb_build_object(
                'model', m.mirror_model, 'version', m.mirror_version, 'share', m.mirror_share) END,
            'versions', (
                SELECT coalesce(jsonb_object_agg(v.version, jsonb_strip_nulls(jsonb_build_object('state', v.state,
                    'weight', v.weight, 'feature_count', v.feature_count,
                    'fixed_tokens_per_request', v.fixed_tokens_per_request,
                    'maximum_output_tokens', v.maximum_output_tokens, 'token_counting', v.token_counting,
                    'bytes_per_token', v.bytes_per_token))), '{}'::jsonb)
                FROM model_versions v WHERE v.model_name = m.model_name))
        FROM model_registry m WHERE m.model_name = $1
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let model: String

    func bind(to binds: inout PostgresBinds) { binds.append(model) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}

// MARK: Aliases

struct ListAliases: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT alias FROM model_aliases
            WHERE $2::text IS NULL AND ($1::text IS NULL OR alias > $1) ORDER BY alias LIMIT $3)
            UNION ALL
            (SELECT alias FROM model_aliases WHERE alias < $2::text ORDER BY alias DESC LIMIT $3)
        )
        SELECT alias, a.model_name, a.version FROM page JOIN model_aliases a USING (alias) ORDER BY alias
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns: [PostgresType] = [.text, .text, .text]

    let page: PageRequest<String>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelAlias {
        ModelAlias(name: try row.text(), model: try row.text(), version: try row.optionalText())
    }
}

struct FindAlias: PostgresStatement {
    static let sql = "SELECT model_name FROM model_aliases WHERE alias = $1"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

struct FindModelName: PostgresStatement {
    static let sql = "SELECT model_name FROM model_registry WHERE model_name = $1"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

struct UpsertAlias: PostgresStatement {
    static let sql = """
        INSERT INTO model_aliases (alias, model_name, version) VALUES ($1, $2, $3)
        ON CONFLICT (alias) DO UPDATE SET model_name = excluded.model_name, version = excluded.version, updated_at = now()
        """
    static let parameters: [PostgresType] = [.text, .text, .text]

    let alias: ModelAlias

    func bind(to binds: inout PostgresBinds) {
        binds.append(alias.name)
        binds.append(alias.model)
        binds.append(alias.version)
    }
}

struct DeleteAlias: PostgresStatement {
    static let sql = "DELETE FROM model_aliases WHERE alias = $1"
    static let parameters: [PostgresType] = [.text]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }
}

struct DescribeAlias: PostgresStatement {
    static let sql =
        "SELECT jsonb_build_object('model', model_name, 'version', version) FROM model_aliases WHERE alias = $1"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let name: String

    func bind(to binds: inout PostgresBinds) { binds.append(name) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
