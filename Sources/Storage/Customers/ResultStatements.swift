internal import Domain
internal import PostgresDriver

/// One request with what is kept of its prompt and its result, but for the result itself.
struct ReadRequestDetail: PostgresStatement {
    static let sql = """
        SELECT r.request_id, r.key_id, r.model, r.model_version, r.status, r.http_status, r.error_code, r.created_at, r.completed_at,
            r.processing_us, r.tier_version_id, r.cached, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source,
            NULL::text, r.user_id, r.operation, r.estimated_tokens, l.requests, CASE WHEN $3 THEN r.prompt END,
            coalesce(r.prompt_sha256, CASE WHEN $3 THEN sha256(convert_to(r.prompt, 'UTF8')) END),
            coalesce(k.sha256, b.sha256, r.result_sha256, sha256(convert_to(k.content, 'UTF8'))), r.result_id IS NOT NULL,
            coalesce(octet_length(k.content), octet_length(b.content))::bigint, b.mime_type, r.completed_at + result_ttl(r.tenant_id),
            r.completed_at <= statement_timestamp() - result_ttl(r.tenant_id)
        FROM requests r
        LEFT JOIN ledger l ON l.entry_id = r.request_id
        LEFT JOIN results k ON k.result_id = r.result_id AND k.tenant_id = r.tenant_id
        LEFT JOIN binary_results b ON b.result_id = r.result_id AND b.tenant_id = r.tenant_id
        WHERE r.request_id = $1 AND r.tenant_id = $2
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .bool]
    static let columns =
        requestColumns + [.text, .bytea, .bytea, .bool, .int8, .text, .timestamptz, .bool]

    let id: RequestID
    let tenantID: TenantID
    let readsPrompt: Bool

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(readsPrompt)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> RequestDetail {
        let request = try requestRow(&row)
        let prompt = try row.optionalText()
        let promptDigest = try row.optionalBytes()
        let digest = try row.optionalBytes()
        let wasKept = try row.bool()
        let byteCount = try row.optionalInt64()
        let mediaType = try row.optionalText()
        let expiresAt = try row.optionalTimestamp().map { Timestamp($0) }
        let isExpired = try row.optionalBool() ?? false
        let result: ResultState
        if let byteCount, let digest, let expiresAt, !isExpired {
            result = .kept(
                ResultState.Kept(
                    mediaType: mediaType ?? "application/json", byteCount: Int(byteCount), digest: digest,
                    expiresAt: expiresAt))
        } else if wasKept {
            result = .gone
        } else if let digest {
            result = .digest(digest)
        } else {
            result = .none
        }
        return RequestDetail(row: request, prompt: prompt, promptDigest: promptDigest, result: result)
    }
}

/// A part of a kept result; no row for one that is gone.
struct ReadResultBytes: PostgresStatement {
    static let sql = """
        SELECT coalesce(substring(b.content FROM $3 FOR $4), substring(convert_to(k.content, 'UTF8') FROM $3 FOR $4))
        FROM requests r
        LEFT JOIN results k ON k.result_id = r.result_id AND k.tenant_id = r.tenant_id
        LEFT JOIN binary_results b ON b.result_id = r.result_id AND b.tenant_id = r.tenant_id
        WHERE r.request_id = $1 AND r.tenant_id = $2 AND num_nonnulls(k.result_id, b.result_id) > 0
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int4, .int4]
    static let columns: [PostgresType] = [.bytea]

    let id: RequestID
    let tenantID: TenantID
    let range: Range<Int>

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(Int32(clamping: range.lowerBound + 1))
        binds.append(Int32(clamping: range.count))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> [UInt8] { try row.bytes() }
}
