internal import Domain
internal import PostgresDriver

/// The columns of a request as the three statements below read them.
private let requestColumns: [PostgresType] = [
    .uuid, .uuid, .text, .text, .text, .int2, .text, .timestamptz, .timestamptz, .int8, .uuid, .bool, .int8, .int8,
    .int8, .text, .text,
]

private func requestRow(_ row: inout PostgresRow) throws(PostgresError) -> RequestRow {
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
    var billed: Usage?
    if let input, let cached, let output, let source {
        billed = Usage(inputTokens: input, cachedInputTokens: cached, outputTokens: output, source: source)
    }
    return RequestRow(
        id: id, keyID: keyID, model: model, modelVersion: version, status: status, httpStatus: httpStatus,
        errorCode: errorCode,
        createdAt: createdAt, completedAt: completedAt, processingMicroseconds: processing, tierVersionID: tier,
        isCached: isCached,
        billed: billed, result: result)
}

/// A page of requests older than a given one, newest first.
struct ReadRequestsBefore: PostgresStatement {
    static let sql = """
        SELECT r.request_id, r.key_id, r.model, r.model_version, r.status, r.http_status, r.error_code, r.created_at, r.completed_at,
            r.processing_us, r.tier_version_id, r.cached, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source,
            NULL::text
        FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id
        WHERE r.tenant_id = $1 AND r.request_id < $2 AND ($3::text IS NULL OR r.status = $3) AND ($4::text IS NULL OR r.model = $4)
        ORDER BY r.request_id DESC
        LIMIT $5
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .text, .text, .int8]
    static let columns = requestColumns

    let query: RequestQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID.postgres)
        binds.append((query.after ?? RequestID(high: .max, low: .max)).postgres)
        binds.append(query.status)
        binds.append(query.model)
        binds.append(Int64(query.limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestRow { try requestRow(&row) }
}

/// A page of requests newer than a given one, oldest first.
struct ReadRequestsAfter: PostgresStatement {
    static let sql = """
        SELECT r.request_id, r.key_id, r.model, r.model_version, r.status, r.http_status, r.error_code, r.created_at, r.completed_at,
            r.processing_us, r.tier_version_id, r.cached, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source,
            NULL::text
        FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id
        WHERE r.tenant_id = $1 AND r.request_id > $2 AND ($3::text IS NULL OR r.status = $3) AND ($4::text IS NULL OR r.model = $4)
        ORDER BY r.request_id
        LIMIT $5
        """
    static let parameters = ReadRequestsBefore.parameters
    static let columns = requestColumns

    let query: RequestQuery

    func bind(to binds: inout PostgresBinds) {
        binds.append(query.tenantID.postgres)
        binds.append((query.before ?? RequestID(high: 0, low: 0)).postgres)
        binds.append(query.status)
        binds.append(query.model)
        binds.append(Int64(query.limit))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestRow { try requestRow(&row) }
}

/// One request with its kept result.
struct ReadRequest: PostgresStatement {
    static let sql = """
        SELECT r.request_id, r.key_id, r.model, r.model_version, r.status, r.http_status, r.error_code, r.created_at, r.completed_at,
            r.processing_us, r.tier_version_id, r.cached, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source,
            k.content
        FROM requests r
        LEFT JOIN ledger l ON l.entry_id = r.request_id
        LEFT JOIN results k ON k.result_id = r.result_id
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
