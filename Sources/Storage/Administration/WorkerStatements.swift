internal import Domain
internal import PostgresDriver

private let workerColumns: [PostgresType] = [
    .uuid, .text, .text, .text, .text, .int4, .int4, .timestamptz, .timestamptz, .bool,
]

private func workerRow(_ row: inout PostgresRow) throws(PostgresError) -> WorkerRow {
    let id = WorkerID(try row.uuid())
    let model = try row.text()
    let version = try row.text()
    guard let address = WorkerAddress(try row.text()), let workerProtocol = WorkerProtocol(rawValue: try row.text())
    else {
        throw row.failure(3, "holds a worker that this build cannot read")
    }
    let weight = Int(try row.int32())
    return WorkerRow(
        id: id, model: model,
        replica: Replica(address: address, workerProtocol: workerProtocol, weight: weight, version: version),
        lifetimeSeconds: Int(try row.int32()), registeredAt: Timestamp(try row.timestamp()),
        expiresAt: Timestamp(try row.timestamp()), isExpired: try row.bool())
}

struct ListWorkers: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT worker_id FROM workers
            WHERE $2::uuid IS NULL AND worker_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY worker_id DESC LIMIT $3)
            UNION ALL
            (SELECT worker_id FROM workers WHERE worker_id > $2::uuid ORDER BY worker_id LIMIT $3)
        )
        SELECT worker_id, w.model_name, w.version, w.address, w.protocol, w.weight, w.ttl_seconds, w.registered_at,
            w.expires_at, w.expires_at <= clock_timestamp()
        FROM page JOIN workers w USING (worker_id)
        ORDER BY worker_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8]
    static let columns = workerColumns

    let page: PageRequest<WorkerID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> WorkerRow { try workerRow(&row) }
}

/// Takes the place of a worker with the same model, version and address, whose id is worth nothing from then on.
struct UpsertWorker: PostgresStatement {
    static let sql = """
        INSERT INTO workers (worker_id, model_name, version, address, protocol, weight, ttl_seconds, registered_at,
            heartbeat_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp(),
            clock_timestamp() + $7 * interval '1 second')
        ON CONFLICT (model_name, address, version) DO UPDATE
        SET worker_id = excluded.worker_id, protocol = excluded.protocol, weight = excluded.weight,
            ttl_seconds = excluded.ttl_seconds, registered_at = excluded.registered_at,
            heartbeat_at = excluded.heartbeat_at, expires_at = excluded.expires_at
        RETURNING worker_id, model_name, version, address, protocol, weight, ttl_seconds, registered_at, expires_at, false
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text, .text, .text, .int4, .int4]
    static let columns = workerColumns

    let id: WorkerID
    let worker: NewWorker

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(worker.model)
        binds.append(worker.replica.version)
        binds.append(worker.replica.address.stored)
        binds.append(worker.replica.workerProtocol.rawValue)
        binds.append(Int32(clamping: worker.replica.weight))
        binds.append(Int32(clamping: worker.lifetimeSeconds))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> WorkerRow { try workerRow(&row) }
}

/// The one write of a heartbeat. It touches no column that an index or a notification hangs on.
struct RenewWorker: PostgresStatement {
    static let sql = """
        UPDATE workers SET heartbeat_at = clock_timestamp(),
            expires_at = clock_timestamp() + ttl_seconds * interval '1 second'
        WHERE worker_id = $1
        RETURNING worker_id, model_name, version, address, protocol, weight, ttl_seconds, registered_at, expires_at, false
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns = workerColumns

    let id: WorkerID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> WorkerRow { try workerRow(&row) }
}

struct DeleteWorker: PostgresStatement {
    static let sql = "DELETE FROM workers WHERE worker_id = $1"
    static let parameters: [PostgresType] = [.uuid]

    let id: WorkerID

    func bind(to binds: inout PostgresBinds) { binds.append(id.postgres) }
}

/// Forgets workers that have been gone for a day.
struct RemoveExpiredWorkers: PostgresStatement {
    static let sql = "DELETE FROM workers WHERE expires_at < now() - interval '1 day'"
}

/// A worker as the audit log keeps it, by what makes it the same one.
struct DescribeWorker: PostgresStatement {
    static let sql = """
        SELECT jsonb_build_object('worker_id', worker_id, 'model', model_name, 'version', version, 'address', address,
            'protocol', protocol, 'weight', weight, 'ttl_seconds', ttl_seconds)
        FROM workers
        WHERE worker_id = $1 OR model_name = $2 AND address = $3 AND version = $4
        """
    static let parameters: [PostgresType] = [.uuid, .text, .text, .text]
    static let columns: [PostgresType] = [.jsonb]

    let id: WorkerID?
    let worker: NewWorker?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id?.postgres)
        binds.append(worker?.model)
        binds.append(worker?.replica.address.stored)
        binds.append(worker?.replica.version)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.jsonText() }
}
