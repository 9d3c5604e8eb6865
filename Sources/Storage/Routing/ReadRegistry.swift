internal import Domain
internal import PostgresDriver

/// Every active model with its replicas, versions and aliases, in one statement and so of one instant. Workers that registered themselves
/// are replicas until they expire, by the database's clock.
struct ReadRegistry: PostgresStatement {
    struct Entry: Sendable {
        let route: ModelRoute
        let aliases: [ModelAlias]
    }

    static let sql = """
        SELECT \(ModelColumns.names),
            r.addresses, r.protocols, r.weights, r.versions,
            \(RoutingPart.columns)
        FROM model_registry m
        LEFT JOIN LATERAL (
            SELECT array_agg(s.address ORDER BY s.address, s.version) AS addresses,
                array_agg(s.protocol ORDER BY s.address, s.version) AS protocols,
                array_agg(s.weight ORDER BY s.address, s.version) AS weights,
                array_agg(s.version ORDER BY s.address, s.version) AS versions
            FROM (
                SELECT t.address, t.protocol, t.weight, t.version FROM routes t WHERE t.model_name = m.model_name
                UNION ALL
                SELECT w.address, w.protocol, w.weight, w.version FROM workers w
                WHERE w.model_name = m.model_name AND w.expires_at > clock_timestamp() AND NOT EXISTS (
                    SELECT FROM routes t
                    WHERE t.model_name = w.model_name AND t.address = w.address AND t.version = w.version)
            ) s
        ) r ON true
        \(RoutingPart.joins)
        WHERE m.is_active
        ORDER BY m.model_name
        """
    static let columns: [PostgresType] =
        ModelColumns.types + [.textArray, .textArray, .int4Array, .textArray] + RoutingPart.types

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let profile = try ModelColumns.read(from: &row)
        let replicas = try replicas(&row)
        let routing = try RoutingPart.read(&row, of: profile.name)
        return Entry(
            route: ModelRoute(
                profile: profile, replicas: replicas, versions: routing.versions, rules: routing.rules),
            aliases: routing.aliases)
    }

    /// Those that this build can read.
    private static func replicas(_ row: inout PostgresRow) throws(PostgresError) -> [Replica] {
        let addresses = try row.optionalArray(of: String.self) ?? []
        let protocols = try row.optionalArray(of: String.self) ?? []
        let weights = try row.optionalArray(of: Int32.self) ?? []
        let versions = try row.optionalArray(of: String.self) ?? []
        return addresses.indices.compactMap { index in
            guard let address = WorkerAddress(addresses[index]) else { return nil }
            return Replica(
                address: address, workerProtocol: WorkerProtocol(rawValue: protocols[index]) ?? .predict,
                weight: Int(weights[index]), version: versions[index])
        }
    }
}
