internal import Domain
internal import PostgresDriver

struct ReadModelUsage: PostgresStatement {
    static let sql = """
        SELECT time_window, request_count, token_count, error_count, cache_hit_count, busy_us, queue_depth
        FROM model_usage_metrics WHERE model_name = $1 AND time_window >= $2 AND time_window < $3
        ORDER BY time_window
        """
    static let parameters: [PostgresType] = [.text, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.timestamptz, .int8, .int8, .int8, .int8, .int8, .int8]

    let model: String
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(model)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ModelUsageBucket {
        ModelUsageBucket(
            start: Timestamp(try row.timestamp()), requests: try row.int64(), tokens: try row.int64(),
            errors: try row.int64(), cacheHits: try row.int64(), busyMicroseconds: try row.int64(),
            queueDepth: try row.int64())
    }
}

/// What each model's requests kept busy since an instant.
struct ReadBusyTimes: PostgresStatement {
    static let sql = """
        SELECT model_name, sum(busy_us)::bigint FROM model_usage_metrics WHERE time_window >= $1 GROUP BY 1
        """
    static let parameters: [PostgresType] = [.timestamptz]
    static let columns: [PostgresType] = [.text, .int8]

    let start: Timestamp

    func bind(to binds: inout PostgresBinds) { binds.append(start.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> (model: String, busyMicroseconds: Int64) {
        (try row.text(), try row.int64())
    }
}

struct RebuildUsage: PostgresStatement {
    static let sql = "SELECT rebuild_usage($1, $2)"
    static let parameters: [PostgresType] = [.timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.int8]

    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}

struct NoteQueueDepths: PostgresStatement {
    static let sql = "SELECT 1 FROM note_queue_depths($1, $2, $3)"
    static let parameters: [PostgresType] = [.timestamptz, .textArray, .int8Array]
    static let columns: [PostgresType] = [.int4]

    let bucket: Timestamp
    let depths: [(key: String, value: Int64)]

    func bind(to binds: inout PostgresBinds) {
        binds.append(bucket.postgres)
        binds.append(depths.map(\.key))
        binds.append(depths.map(\.value))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
