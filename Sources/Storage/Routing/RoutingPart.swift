internal import Domain
internal import PostgresDriver

/// The part of two statements that reads versions, rules and aliases of `model_registry m`. Constants alone, put together when the program is
/// built.
enum RoutingPart {
    static let columns = """
        v.names, v.states, v.weights, v.feature_counts, v.fixed_tokens, v.output_tokens, v.countings, v.bytes_per_tokens,
        m.default_version, m.sticky_by, m.mirror_model, m.mirror_version, m.mirror_share,
        a.names, a.versions
        """
    static let joins = """
        LEFT JOIN LATERAL (
            SELECT array_agg(s.version ORDER BY s.version) AS names, array_agg(s.state ORDER BY s.version) AS states,
                array_agg(s.weight ORDER BY s.version) AS weights,
                array_agg(s.feature_count ORDER BY s.version) AS feature_counts,
                array_agg(s.fixed_tokens_per_request ORDER BY s.version) AS fixed_tokens,
                array_agg(s.maximum_output_tokens ORDER BY s.version) AS output_tokens,
                array_agg(s.token_counting ORDER BY s.version) AS countings,
                array_agg(s.bytes_per_token ORDER BY s.version) AS bytes_per_tokens
            FROM model_versions s WHERE s.model_name = m.model_name
        ) v ON true
        LEFT JOIN LATERAL (
            SELECT array_agg(s.alias ORDER BY s.alias) AS names, array_agg(s.version ORDER BY s.alias) AS versions
            FROM model_aliases s WHERE s.model_name = m.model_name
        ) a ON true
        """
    static let types: [PostgresType] = [
        .textArray, .textArray, .int4Array, .int4Array, .int8Array, .int8Array, .textArray, .int4Array,
        .text, .text, .text, .text, .int4,
        .textArray, .textArray,
    ]

    static func read(_ row: inout PostgresRow, of model: String) throws(PostgresError) -> ModelRoutingRow {
        let versions = try versions(&row)
        let rules = RoutingRules(
            defaultVersion: try row.optionalText(), stickiness: Stickiness(try row.text()) ?? .none,
            mirror: try mirror(&row))
        let aliases = try row.optionalArray(of: String.self) ?? []
        let aliased = try row.optionalArrayWithNulls(of: String.self) ?? []
        return ModelRoutingRow(
            model: model, rules: rules, versions: versions.sorted { VersionRank($0.name) < VersionRank($1.name) },
            aliases: zip(aliases, aliased).map { ModelAlias(name: $0, model: model, version: $1) })
    }

    private static func versions(_ row: inout PostgresRow) throws(PostgresError) -> [ModelVersion] {
        let names = try row.optionalArray(of: String.self) ?? []
        let states = try row.optionalArray(of: String.self) ?? []
        let weights = try row.optionalArrayWithNulls(of: Int32.self) ?? []
        let featureCounts = try row.optionalArrayWithNulls(of: Int32.self) ?? []
        let fixedTokens = try row.optionalArrayWithNulls(of: Int64.self) ?? []
        let outputTokens = try row.optionalArrayWithNulls(of: Int64.self) ?? []
        let countings = try row.optionalArrayWithNulls(of: String.self) ?? []
        let bytesPerTokens = try row.optionalArrayWithNulls(of: Int32.self) ?? []
        return names.indices.map { index in
            var overrides = ProfileOverrides()
            overrides.featureCount = featureCounts[index].map(Int.init)
            overrides.fixedTokensPerRequest = fixedTokens[index]
            overrides.maximumOutputTokens = outputTokens[index]
            overrides.tokenCounting = countings[index].flatMap(TokenCounting.init)
            overrides.bytesPerToken = bytesPerTokens[index].map(Int64.init)
            return ModelVersion(
                name: names[index], state: ModelVersion.State(rawValue: states[index]) ?? .retired,
                weight: weights[index].map(Int.init), overrides: overrides)
        }
    }

    private static func mirror(_ row: inout PostgresRow) throws(PostgresError) -> MirrorRule? {
        let model = try row.optionalText()
        let version = try row.optionalText()
        guard let share = try row.optionalInt32() else { return nil }
        return MirrorRule(model: model, version: version, share: Int(share))
    }
}
