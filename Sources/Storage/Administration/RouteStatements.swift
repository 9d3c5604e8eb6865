internal import Domain
internal import PostgresDriver

private let routeColumns: [PostgresType] = [.text, .textArray, .textArray, .int4Array, .textArray, .timestamptz]

private func routeRow(_ row: inout PostgresRow) throws(PostgresError) -> RouteRow {
    let model = try row.text()
    let addresses = try row.array(of: String.self)
    let protocols = try row.array(of: String.self)
    let weights = try row.array(of: Int32.self)
    let versions = try row.array(of: String.self)
    let updatedAt = Timestamp(try row.timestamp())
    var replicas: [Replica] = []
    for index in addresses.indices {
        guard let address = WorkerAddress(addresses[index]),
            let workerProtocol = WorkerProtocol(rawValue: protocols[index])
        else {
            throw row.failure(1, "holds a replica that this build cannot read")
        }
        replicas.append(
            Replica(
                address: address, workerProtocol: workerProtocol, weight: Int(weights[index]), version: versions[index])
        )
    }
    return RouteRow(model: model, replicas: replicas, updatedAt: updatedAt)
}

extension WorkerAddress {
    /// The form in which an address is kept and shown; unlike the description it says whether TLS is used.
    var stored: String { usesTLS ? "https://\(description)" : description }
}

struct ListRoutes: PostgresStatement {
    static let sql = """
        WITH known AS (
            SELECT DISTINCT model_name FROM routes
        ), page AS (
            (SELECT model_name FROM known
            WHERE $2::text IS NULL AND ($1::text IS NULL OR model_name > $1) ORDER BY model_name LIMIT $3)
            UNION ALL
            (SELECT model_name FROM known WHERE model_name < $2::text ORDER BY model_name DESC LIMIT $3)
        )
        SELECT model_name, array_agg(r.address ORDER BY r.address, r.version), array_agg(r.protocol ORDER BY r.address, r.version),
            array_agg(r.weight ORDER BY r.address, r.version), array_agg(r.version ORDER BY r.address, r.version), max(r.created_at)
        FROM page JOIN routes r USING (model_name)
        GROUP BY model_name
        ORDER BY model_name
        """
    static let parameters: [PostgresType] = [.text, .text, .int8]
    static let columns = routeColumns

    let page: PageRequest<String>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after)
        binds.append(page.before)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RouteRow { try routeRow(&row) }
}

struct FindRoute: PostgresStatement {
    static let sql = """
        SELECT model_name, array_agg(address ORDER BY address, version), array_agg(protocol ORDER BY address, version),
            array_agg(weight ORDER BY address, version), array_agg(version ORDER BY address, version), max(created_at)
        FROM routes WHERE model_name = $1
        GROUP BY model_name
        """
    static let parameters: [PostgresType] = [.text]
    static let columns = routeColumns

    let model: String

    func bind(to binds: inout PostgresBinds) { binds.append(model) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RouteRow { try routeRow(&row) }
}

struct DeleteReplicas: PostgresStatement {
    static let sql = "DELETE FROM routes WHERE model_name = $1"
    static let parameters: [PostgresType] = [.text]

    let model: String

    func bind(to binds: inout PostgresBinds) { binds.append(model) }
}

struct InsertReplicas: PostgresStatement {
    static let sql = """
        INSERT INTO routes (model_name, address, protocol, weight, version)
        SELECT $1, r.address, r.protocol, r.weight, r.version
        FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[]) AS r (address, protocol, weight, version)
        """
    static let parameters: [PostgresType] = [.text, .textArray, .textArray, .int4Array, .textArray]

    let model: String
    let replicas: [Replica]

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(replicas.map(\.address.stored))
        binds.append(replicas.map(\.workerProtocol.rawValue))
        binds.append(replicas.map { Int32(clamping: $0.weight) })
        binds.append(replicas.map(\.version))
    }
}

/// A route as the audit log keeps it; `nil` where there is none.
struct DescribeRoute: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('replicas', jsonb_agg(jsonb_build_object('address', address, 'protocol', protocol, 'weight', weight,
            'version', version) ORDER BY address, version))
        FROM routes WHERE model_name = $1
        HAVING count(*) > 0
        """
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.jsonb]

    let model: String

    func bind(to binds: inout PostgresBinds) { binds.append(model) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String? { try row.jsonText() }
}
