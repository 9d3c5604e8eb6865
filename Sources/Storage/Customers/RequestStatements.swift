internal import Domain
internal import PostgresDriver

/// The columns of a request as the statements below read them.
let requestColumns: [PostgresType] = [
    .uuid, .uuid, .text, .text, .text, .int2, .text, .timestamptz, .timestamptz, .int8, .uuid, .bool, .int8, .int8,
    .int8, .text, .text, .uuid, .text, .int8, .int8,
]

func requestRow(_ row: inout PostgresRow) throws(PostgresError) -> RequestRow {
    let id = RequestID(try row.uuid())
    let keyID = KeyID(try row.uuid())
    let model = try row.text()
    let version = try row.text()
    let status = try row.text()
    let httpStatus = try row.optionalInt16()
    let errorCode = try row.optionalText()
    let createdAt = Timestamp(try row.timestamp())
    let completedAt = try row.optionalTimestamp().map { Timestamp($0) }
    let processing = try row.optionalInt64()
    let tier = try row.optionalUUID().map { TierVersionID($0) }
    let isCached = try row.bool()
    let input = try row.optionalInt64()
    let cached = try row.optionalInt64()
    let output = try row.optionalInt64()
    let source = try row.optionalText().flatMap { Usage.Source(rawValue: $0) }
    let result = try row.optionalText()
    let userID = try row.optionalUUID().map { UserID($0) }
    let operation = try row.optionalText() ?? ""
    let estimated = try row.optionalInt64()
    let requests = try row.optionalInt64()
    var billed: Usage?
    if let input, let cached, let output, let source {
        billed = Usage(inputTokens: input, cachedInputTokens: cached, outputTokens: output, source: source)
    }
    return RequestRow(
        id: id, keyID: keyID, model: model, modelVersion: version, status: status, httpStatus: httpStatus,
        errorCode: errorCode,
        createdAt: createdAt, completedAt: completedAt, processingMicroseconds: processing, tierVersionID: tier,
        isCached: isCached,
        billed: billed, result: result, userID: userID, operation: operation, estimatedTokens: estimated,
        billedRequests: requests ?? 0)
}

/// A page of requests, in either direction, of all of them or only of those that were not completed, which have an index of their own.
///
/// However rare what is looked for is, a page reads no more than so many rows of the index. Where these were not enough, the last column of every
/// row says how far it came, and there is one row without a request if nothing was found.
enum RequestPageText {
    /// Called for the static texts of the statements below and for nothing else: whatever is put in here is a constant of this file, values are parameters.
    /// - Parameters:
    ///   - condition: between a request's id and the page's edge, which is `$2`, and its far end, which is `$3`.
    ///   - order: one of the two below.
    ///   - isNotCompleted: the condition of the index.
    static func page(_ condition: String, order: String, isNotCompleted: Bool) -> String {
        let range = "tenant_id = $1 AND \(condition)" + (isNotCompleted ? " AND status <> 'completed'" : "")
        return """
            WITH hits AS MATERIALIZED (
                SELECT * FROM (
                    SELECT request_id, key_id, model, model_version, status, http_status, error_code, created_at, completed_at,
                        processing_us, tier_version_id, cached, user_id, operation, estimated_tokens
                    FROM requests WHERE \(range) ORDER BY request_id \(order) LIMIT $15
                ) r
                WHERE ($4::text IS NULL OR status = $4) AND ($5::text IS NULL OR model = $5)
                    AND ($6::text IS NULL OR model_version = $6) AND ($7::text IS NULL OR error_code = $7)
                    AND ($8::uuid IS NULL OR key_id = $8) AND ($9::uuid IS NULL OR user_id = $9)
                    AND ($10::text IS NULL OR operation = $10) AND ($11::bool IS NULL OR cached = $11)
                    AND ($12::timestamptz IS NULL OR created_at >= $12) AND ($13::timestamptz IS NULL OR created_at < $13)
                ORDER BY request_id \(order) LIMIT $14
            ), stop AS MATERIALIZED (
                SELECT CASE WHEN (SELECT count(*) FROM hits) < $14
                    THEN (SELECT request_id FROM requests WHERE \(range) ORDER BY request_id \(order) OFFSET $15 - 1 LIMIT 1)
                    END AS id
            )
            SELECT r.request_id, r.key_id, r.model, r.model_version, r.status, r.http_status, r.error_code, r.created_at, r.completed_at,
                r.processing_us, r.tier_version_id, r.cached, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source,
                NULL::text, r.user_id, r.operation, r.estimated_tokens, l.requests, stop.id
            FROM stop LEFT JOIN hits r ON true LEFT JOIN ledger l ON l.entry_id = r.request_id
            ORDER BY r.request_id \(order)
            """
    }

    /// The primary key's index does not have these orders, and the tenant's indexes do. So the planner cannot walk all tenants' requests for those of
    /// one, which is what it takes for cheap where the tenant has most of them and which is not where others came since.
    static let newestFirst = "DESC NULLS LAST"
    static let oldestFirst = "ASC NULLS FIRST"
    static let older = "request_id < $2 AND request_id >= $3"
    static let newer = "request_id > $2 AND request_id < $3"
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .uuid, .text, .text, .text, .text, .uuid, .uuid, .text, .bool, .timestamptz, .timestamptz, .int8,
        .int8,
    ]
    static let columns = requestColumns + [.uuid]

    /// How many rows of the index a page reads at most.
    static let scanLimit: Int64 = 10_000

    static func bind(_ query: RequestQuery, to binds: inout PostgresBinds) {
        // A request's id and the instant in its row come from two readings of the clock; the row decides.
        let slack: Int64 = 10_000_000
        let oldest = query.start.map {
            RequestID.lowerBound(at: Timestamp(microsecondsSince1970: $0.microsecondsSince1970 - slack))
        }
        let newest = query.end.map {
            RequestID.lowerBound(at: Timestamp(microsecondsSince1970: $0.microsecondsSince1970 + slack))
        }
        let first = oldest ?? RequestID(high: 0, low: 0)
        let last = newest ?? RequestID(high: .max, low: .max)
        binds.append(query.tenantID.postgres)
        if let before = query.before {
            binds.append(max(before, first).postgres)
            binds.append(last.postgres)
        } else {
            binds.append(min(query.after ?? last, last).postgres)
            binds.append(first.postgres)
        }
        binds.append(query.status)
        binds.append(query.model)
        binds.append(query.version)
        binds.append(query.errorCode)
        binds.append(query.keyID?.postgres)
        binds.append(query.userID?.postgres)
        binds.append(query.operation)
        binds.append(query.isCached)
        binds.append(query.start?.postgres)
        binds.append(query.end?.postgres)
        binds.append(Int64(query.limit))
        binds.append(scanLimit)
    }

    static func row(_ row: inout PostgresRow) throws(PostgresError) -> RequestPageRow {
        // The first column is empty in the row that only says how far the page came.
        guard !row.isNull(0) else {
            return RequestPageRow(request: nil, stop: try row.optionalUUID(21).map { RequestID($0) })
        }
        let request = try requestRow(&row)
        return RequestPageRow(request: request, stop: try row.optionalUUID().map { RequestID($0) })
    }
}

/// A request of a page, and how far the page came if it did not come to its end.
struct RequestPageRow: Sendable {
    let request: RequestRow?
    let stop: RequestID?
}

/// Requests older than the edge, newest first.
struct ReadRequestsBefore: PostgresStatement {
    static let sql = RequestPageText.page(
        RequestPageText.older, order: RequestPageText.newestFirst, isNotCompleted: false)
    static let parameters = RequestPageText.parameters
    static let columns = RequestPageText.columns

    let query: RequestQuery

    func bind(to binds: inout PostgresBinds) { RequestPageText.bind(query, to: &binds) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestPageRow {
        try RequestPageText.row(&row)
    }
}

/// Requests newer than the edge, oldest first.
struct ReadRequestsAfter: PostgresStatement {
    static let sql = RequestPageText.page(
        RequestPageText.newer, order: RequestPageText.oldestFirst, isNotCompleted: false)
    static let parameters = RequestPageText.parameters
    static let columns = RequestPageText.columns

    let query: RequestQuery

    func bind(to binds: inout PostgresBinds) { RequestPageText.bind(query, to: &binds) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestPageRow {
        try RequestPageText.row(&row)
    }
}

/// As ``ReadRequestsBefore``, of those that were not completed.
struct ReadNotCompletedBefore: PostgresStatement {
    static let sql = RequestPageText.page(
        RequestPageText.older, order: RequestPageText.newestFirst, isNotCompleted: true)
    static let parameters = RequestPageText.parameters
    static let columns = RequestPageText.columns

    let query: RequestQuery

    func bind(to binds: inout PostgresBinds) { RequestPageText.bind(query, to: &binds) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestPageRow {
        try RequestPageText.row(&row)
    }
}

/// As ``ReadRequestsAfter``, of those that were not completed.
struct ReadNotCompletedAfter: PostgresStatement {
    static let sql = RequestPageText.page(
        RequestPageText.newer, order: RequestPageText.oldestFirst, isNotCompleted: true)
    static let parameters = RequestPageText.parameters
    static let columns = RequestPageText.columns

    let query: RequestQuery

    func bind(to binds: inout PostgresBinds) { RequestPageText.bind(query, to: &binds) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestPageRow {
        try RequestPageText.row(&row)
    }
}

/// One request with its kept result.
struct ReadRequest: PostgresStatement {
    static let sql = """
        SELECT r.request_id, r.key_id, r.model, r.model_version, r.status, r.http_status, r.error_code, r.created_at, r.completed_at,
            r.processing_us, r.tier_version_id, r.cached, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source,
            k.content, r.user_id, r.operation, r.estimated_tokens, l.requests
        FROM requests r
        LEFT JOIN ledger l ON l.entry_id = r.request_id
        LEFT JOIN results k ON k.result_id = r.result_id AND k.tenant_id = r.tenant_id
            AND r.completed_at > statement_timestamp() - result_ttl(r.tenant_id)
        WHERE r.request_id = $1 AND r.tenant_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]
    static let columns = requestColumns

    let id: RequestID
    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestRow { try requestRow(&row) }
}
