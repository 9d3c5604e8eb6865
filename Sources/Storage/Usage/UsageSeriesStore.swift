public import Domain
public import PostgresDriver

/// Reads what was used when.
public struct UsageSeriesStore: UsageSeries {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reports`, or of `weir_reader` under row-level security.
    public init(pool: PostgresPool) { self.pool = pool }

    public func quarters(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageQuarter] {
        do throws(PostgresError) {
            return try await pool.pipeline(
                ActAsTenant(tenantID: tenant), ReadUsageQuarters(tenantID: tenant, start: start, end: end)
            ).1
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func minutes(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [UsageMinute] {
        do throws(PostgresError) {
            let minutes = try await pool.pipeline(
                ActAsTenant(tenantID: tenant), ReadUsageMinutes(tenantID: tenant, start: start, end: end)
            ).1
            return minutes.count > ReadUsageMinutes.limit ? [] : minutes
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

/// The roll-up alone: what it has not yet got makes the minutes fewer than the usage, which whoever reads both can see.
struct ReadUsageMinutes: PostgresStatement {
    static let sql = """
        SELECT minute, requests, tokens, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us, last_end
        FROM usage_minutes WHERE tenant_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute LIMIT $4 + 1
        """
    /// Three months and more without a pause; more than that is not held in memory for one question.
    static let limit = 140_000
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz, .int8]
    static let columns: [PostgresType] = [
        .timestamptz, .int8, .int8, .int8, .int8, .int8, .int8, .int8, .int8, .timestamptz,
    ]

    let tenantID: TenantID
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
        binds.append(end.postgres)
        binds.append(Int64(Self.limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> UsageMinute {
        UsageMinute(
            start: Timestamp(try row.timestamp()), requests: try row.int64(), tokens: try row.int64(),
            arrivals: try row.int64(), heldTokens: try row.int64(), mostTokens: try row.int64(),
            admitted: try row.int64(), leastTokens: try row.int64(), busyMicroseconds: try row.int64(),
            lastEnd: try row.optionalTimestamp().map { Timestamp($0) })
    }
}

/// Roll-up and the ledger's tail in one snapshot.
struct ReadUsageQuarters: PostgresStatement {
    static let sql = """
        SELECT p.bucket_start, sum(p.requests)::bigint, sum(p.tokens)::bigint
        FROM (
            SELECT u.bucket_start, u.requests_count AS requests, u.input_tokens + u.output_tokens AS tokens
            FROM usage u WHERE u.tenant_id = $1 AND u.bucket_start >= $2 AND u.bucket_start < $3
            UNION ALL
            SELECT usage_bucket(l.occurred_at), l.requests, l.input_tokens + l.output_tokens
            FROM ledger l
            WHERE l.tenant_id = $1 AND l.occurred_at >= $2 AND l.occurred_at < $3 AND l.tx >= (SELECT position FROM rollup_watermark)
        ) p
        GROUP BY 1 ORDER BY 1
        """
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz]
    static let columns: [PostgresType] = [.timestamptz, .int8, .int8]

    let tenantID: TenantID
    let start: Timestamp
    let end: Timestamp

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(start.postgres)
        binds.append(end.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> UsageQuarter {
        UsageQuarter(
            start: Timestamp(try row.timestamp()), requests: try row.int64(), tokens: try row.int64())
    }
}
