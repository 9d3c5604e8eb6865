public import Domain
internal import Logging
public import PostgresDriver
internal import Synchronization

/// Streams of usage from COPY, on connections of their own. There are as many places as connections, and nobody waits for one: an export can take
/// long, and whoever waits would wait for strangers.
public struct UsageExportStore: UsageExports {
    private let pool: PostgresPool
    private let places: ExportPlaces

    /// - Parameters:
    ///   - pool: connections of the role `weir_reader` for customers, under row-level security, or of `weir_reports` for operators.
    ///   - perTenant: how many of them one tenant may have.
    public init(pool: PostgresPool, perTenant: Int) {
        self.pool = pool
        places = ExportPlaces(limit: pool.options.maximumConnections, perTenant: perTenant)
    }

    public func open(_ query: ExportQuery) async throws(ExportRefusal) -> any UsageExportStream {
        let statement = ExportScope(query: query).stream
        let place = try places.take(for: query.tenantID)
        let isThere: Bool?
        do throws(PostgresError) {
            isThere = try await pool.pipeline(
                SetExportScope(scope: ExportScope(query: query)), FindExportSubject(tenantID: query.tenantID)
            ).1.first
        } catch {
            throw .unavailable(StoreUnavailable(error))
        }
        guard isThere == true else { throw .unknownTenant }
        return CopyStream(pool: pool, statement: statement, place: place)
    }
}

/// Whether there is the tenant, or no tenant was named; also the proof that the store answers.
struct FindExportSubject: PostgresStatement {
    static let sql = "SELECT $1::uuid IS NULL OR EXISTS (SELECT FROM tenants WHERE tenant_id = $1)"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.bool]

    let tenantID: TenantID?

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID?.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Bool { try row.bool() }
}

private struct CopyStream: UsageExportStream {
    let pool: PostgresPool
    let statement: any PostgresCopyStatement
    /// Held until all was read, or for as long as anybody holds the stream.
    let place: ExportPlaces.Place

    func read(_ body: @Sendable ([UInt8]) async throws -> Void) async throws -> Int64 {
        // Before the answer's end is sent, so that who has seen it can ask for the next at once.
        defer { place.leave() }
        do {
            return try await pool.withConnection { connection in
                let copy = try await connection.copyOut(statement)
                for try await chunk in copy { try await body(chunk) }
                return await copy.rowCount
            }
        } catch let error as PostgresError {
            throw StoreUnavailable(error)
        }
    }
}

/// Counts what runs.
final class ExportPlaces: Sendable {
    /// One of the places; free again when it is left, or when it goes.
    final class Place: Sendable {
        private let places: ExportPlaces
        private let tenantID: TenantID?
        private let isLeft = Atomic(false)

        fileprivate init(_ places: ExportPlaces, _ tenantID: TenantID?) {
            self.places = places
            self.tenantID = tenantID
        }

        deinit { leave() }

        func leave() {
            if !isLeft.exchange(true, ordering: .relaxed) { places.leave(tenantID) }
        }
    }

    private struct Taken {
        var count = 0
        var byTenant: [TenantID: Int] = [:]
    }

    private let limit: Int
    private let perTenant: Int
    private let taken = Mutex(Taken())

    init(limit: Int, perTenant: Int) {
        self.limit = limit
        self.perTenant = perTenant
    }

    func take(for tenantID: TenantID?) throws(ExportRefusal) -> Place {
        let refusal: ExportRefusal? = taken.withLock { taken in
            if let tenantID, taken.byTenant[tenantID, default: 0] >= perTenant { return .tooMany(isOwn: true) }
            if taken.count >= limit { return .tooMany(isOwn: false) }
            taken.count += 1
            if let tenantID { taken.byTenant[tenantID, default: 0] += 1 }
            return nil
        }
        if let refusal { throw refusal }
        return Place(self, tenantID)
    }

    private func leave(_ tenantID: TenantID?) {
        taken.withLock { taken in
            taken.count -= 1
            if let tenantID, let count = taken.byTenant[tenantID] {
                taken.byTenant[tenantID] = count > 1 ? count - 1 : nil
            }
        }
    }
}
