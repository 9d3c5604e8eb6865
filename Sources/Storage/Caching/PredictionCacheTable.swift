public import Domain
public import PostgresDriver

/// The cache in PostgreSQL: functions of the schema, one call each.
public struct PredictionCacheTable: PredictionCacheStore {
    private let pool: PostgresPool
    private let reads: PostgresPool
    private let directory: PostgresPool

    /// - Parameters:
    ///   - pool: connections of the role `weir_writer`.
    ///   - reads: connections of the same role for what a request waits for; with little patience.
    ///   - directory: connections of the role `weir_directory`.
    public init(pool: PostgresPool, reads: PostgresPool, directory: PostgresPool) {
        self.pool = pool
        self.reads = reads
        self.directory = directory
    }

    public func find(_ key: CacheKey, tenantID: TenantID) async throws(StoreUnavailable) -> [UInt8]? {
        try await run(FindCachedPrediction(key: key, tenantID: tenantID), on: reads).first ?? nil
    }

    public func write(_ rows: [CachedRow]) async throws(StoreUnavailable) {
        _ = try await run(KeepCachedPredictions(rows: rows), on: pool)
    }

    public func touch(_ accesses: [CacheAccess]) async throws(StoreUnavailable) {
        _ = try await run(NoteCacheAccesses(accesses: accesses), on: pool)
    }

    public func add(_ rows: [CacheStatisticsRow]) async throws(StoreUnavailable) {
        _ = try await run(AddCacheStatistics(rows: rows), on: pool)
    }

    public func clearings(after known: Int64) async throws(StoreUnavailable) -> [CacheClearing]? {
        let rows = try await run(ReadCacheClearings(known: known), on: directory)
        // With one there is always the newest among them.
        return rows.isEmpty && known >= 0 ? nil : rows
    }

    private func run<S: PostgresStatement>(_ statement: S, on pool: PostgresPool) async throws(StoreUnavailable)
        -> [S.Row]
    {
        do throws(PostgresError) {
            return try await pool.execute(statement)
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct FindCachedPrediction: PostgresStatement {
    static let sql = "SELECT find_cached_prediction($1, $2)"
    static let parameters: [PostgresType] = [.uuid, .text]
    static let columns: [PostgresType] = [.bytea]

    let key: CacheKey
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(key.text)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> [UInt8]? { try row.optionalBytes() }
}

struct KeepCachedPredictions: PostgresStatement {
    static let sql = "SELECT keep_cached_predictions($1, $2, $3, $4, $5, $6, $7, $8)"
    static let parameters: [PostgresType] = [
        .textArray, .uuidArray, .textArray, .textArray, .textArray, .byteaArray, .timestamptzArray, .timestamptzArray,
    ]
    static let columns: [PostgresType] = [.int4]

    let rows: [CachedRow]

    func bind(to binds: inout PostgresBinds) {
        binds.append(rows.map(\.key.text))
        binds.append(rows.map(\.tenantID.postgres))
        binds.append(rows.map(\.model))
        binds.append(rows.map(\.version))
        binds.appendArray(of: .text, count: rows.count) { array in
            for row in rows { array.append(row.label) }
        }
        binds.append(rows.map(\.bytes))
        binds.append(rows.map(\.cachedAt.postgres))
        binds.append(rows.map(\.expiresAt.postgres))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct NoteCacheAccesses: PostgresStatement {
    static let sql = "SELECT note_cache_accesses($1, $2, $3)"
    static let parameters: [PostgresType] = [.textArray, .int8Array, .timestamptzArray]
    static let columns: [PostgresType] = [.int4]

    let accesses: [CacheAccess]

    func bind(to binds: inout PostgresBinds) {
        binds.append(accesses.map(\.key.text))
        binds.append(accesses.map(\.count))
        binds.append(accesses.map(\.lastAt.postgres))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct AddCacheStatistics: PostgresStatement {
    static let sql = "SELECT add_cache_statistics($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
    static let parameters: [PostgresType] = [
        .uuidArray, .textArray, .int8Array, .int8Array, .int8Array, .int8Array, .int8Array, .int8Array, .int8Array,
        .int8Array,
    ]
    static let columns: [PostgresType] = [.int4]

    let rows: [CacheStatisticsRow]

    func bind(to binds: inout PostgresBinds) {
        binds.append(rows.map(\.tenantID.postgres))
        binds.append(rows.map(\.model))
        for count in [
            \CacheTally.memoryHits, \.redisHits, \.tableHits, \.collapsed, \.misses, \.stores, \.storedBytes,
            \.evictions,
        ] { binds.append(rows.map { $0.tally[keyPath: count] }) }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

/// Nothing where nothing is newer than what is known.
struct ReadCacheClearings: PostgresStatement {
    static let sql = """
        SELECT clearing_id, tenant_id, model_name, pattern FROM cache_clearings
        WHERE (SELECT max(clearing_id) FROM cache_clearings) > $1
        """
    static let parameters: [PostgresType] = [.int8]
    static let columns: [PostgresType] = [.int8, .uuid, .text, .text]

    let known: Int64

    func bind(to binds: inout PostgresBinds) { binds.append(known) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> CacheClearing {
        CacheClearing(
            sequence: try row.int64(), tenantID: try row.optionalUUID().map { TenantID($0) },
            model: try row.optionalText(), pattern: try row.optionalText())
    }
}

/// A clearing by the administration.
struct ClearPredictionCache: PostgresStatement {
    static let sql = "SELECT clear_prediction_cache($1, $2, $3)"
    static let parameters: [PostgresType] = [.uuid, .text, .text]
    static let columns: [PostgresType] = [.int8]

    let clearing: NewCacheClearing

    func bind(to binds: inout PostgresBinds) {
        binds.append(clearing.tenantID?.postgres)
        binds.append(clearing.model)
        binds.append(clearing.pattern)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

/// What a clearing was of, for the audit log.
struct DescribeClearing: PostgresStatement {
    static let sql = "SELECT jsonb_build_object('tenant_id', $1, 'model', $2, 'pattern', $3)::text"
    static let parameters: [PostgresType] = [.uuid, .text, .text]
    static let columns: [PostgresType] = [.text]

    let clearing: NewCacheClearing

    func bind(to binds: inout PostgresBinds) {
        binds.append(clearing.tenantID?.postgres)
        binds.append(clearing.model)
        binds.append(clearing.pattern)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// What was counted and what the table holds, by tenant and model.
struct ReadCacheStatistics: PostgresStatement {
    static let sql = """
        SELECT s.tenant_id, s.model_name, s.memory_hits, s.redis_hits, s.table_hits, s.collapsed, s.misses, s.stores, s.stored_bytes,
            s.evictions, coalesce(t.entries, 0), coalesce(t.accesses, 0)::bigint
        FROM cache_statistics s
        LEFT JOIN LATERAL (
            SELECT count(*) AS entries, sum(c.access_count) AS accesses FROM prediction_cache c
            WHERE c.tenant_id = s.tenant_id AND c.model_name = s.model_name AND c.expires_at > clock_timestamp()
        ) t ON true
        WHERE ($1::uuid IS NULL OR s.tenant_id = $1) AND ($2::text IS NULL OR s.model_name = $2)
        ORDER BY s.tenant_id, s.model_name LIMIT $3
        """
    static let parameters: [PostgresType] = [.uuid, .text, .int8]
    static let columns: [PostgresType] = [
        .uuid, .text, .int8, .int8, .int8, .int8, .int8, .int8, .int8, .int8, .int8, .int8,
    ]

    let query: CacheStatisticsQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID?.postgres)
        binds.append(query.model)
        binds.append(Int64(query.limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> CacheStatisticsReport {
        let tenantID = TenantID(try row.uuid())
        let model = try row.text()
        var tally = CacheTally()
        for count in [
            \CacheTally.memoryHits, \.redisHits, \.tableHits, \.collapsed, \.misses, \.stores, \.storedBytes,
            \.evictions,
        ] { tally[keyPath: count] = try row.int64() }
        return CacheStatisticsReport(
            row: CacheStatisticsRow(tenantID: tenantID, model: model, tally: tally), tableEntries: try row.int64(),
            tableAccesses: try row.int64())
    }
}

struct RemoveExpiredPredictions: PostgresStatement {
    static let sql = "SELECT remove_expired_predictions($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct RemoveExcessPredictions: PostgresStatement {
    static let sql = "SELECT remove_excess_predictions($1, $2)"
    static let parameters: [PostgresType] = [.int4, .int4]
    static let columns: [PostgresType] = [.int4]

    let rowsPerTenant: Int32
    let limit: Int32

    func bind(to binds: inout PostgresBinds) {
        binds.append(rowsPerTenant)
        binds.append(limit)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
