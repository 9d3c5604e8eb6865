public import Domain
internal import PostgresDriver

struct InsertReconciliation: PostgresStatement {
    static let sql = """
        INSERT INTO reconciliations (reconciliation_id, tenant_id, window_start, window_end, difference_count, differences, created_by, took_ms)
        SELECT $1, $2, $3, $4, $5, (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'id', id, 'expected', expected, 'found', found)), '[]')
            FROM unnest($6, $7, $8, $9) AS d (kind, id, expected, found)), $10, $11
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuid, .timestamptz, .timestamptz, .int8, .textArray, .textArray, .textArray, .textArray, .text, .int8,
    ]

    let id: AuditID
    let scope: ReconciliationScope
    let differences: BookDifferences
    let actor: AuditActor
    let tookMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(scope.tenantID?.postgres)
        binds.append(scope.start.postgres)
        binds.append(scope.end.postgres)
        binds.append(differences.count)
        binds.append(differences.list.map(\.kind))
        binds.append(differences.list.map(\.id))
        binds.append(differences.list.map(\.expected))
        binds.append(differences.list.map(\.found))
        binds.append(actor.text)
        binds.append(tookMilliseconds)
    }
}

struct ListReconciliations: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT reconciliation_id FROM reconciliations
            WHERE $2::uuid IS NULL AND reconciliation_id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY reconciliation_id DESC LIMIT $3)
            UNION ALL
            (SELECT reconciliation_id FROM reconciliations WHERE reconciliation_id > $2::uuid ORDER BY reconciliation_id LIMIT $3)
        )
        SELECT reconciliation_id, r.tenant_id, r.window_start, r.window_end, r.difference_count, r.created_by, r.created_at, r.took_ms,
            d.kinds, d.ids, d.expected, d.found
        FROM page JOIN reconciliations r USING (reconciliation_id) CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(x ->> 'kind'), '{}') AS kinds, coalesce(array_agg(x ->> 'id'), '{}') AS ids,
                coalesce(array_agg(x ->> 'expected'), '{}') AS expected, coalesce(array_agg(x ->> 'found'), '{}') AS found
            FROM jsonb_array_elements(r.differences) x
        ) d
        ORDER BY reconciliation_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .int8]
    static let columns: [PostgresType] = [
        .uuid, .uuid, .timestamptz, .timestamptz, .int8, .text, .timestamptz, .int8, .textArray, .textArray, .textArray,
        .textArray,
    ]

    let page: PageRequest<AuditID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ReconciliationRecord {
        let id = AuditID(try row.uuid())
        let scope = ReconciliationScope(
            tenantID: try row.optionalUUID().map { TenantID($0) }, start: Timestamp(try row.timestamp()),
            end: Timestamp(try row.timestamp()))
        var differences = BookDifferences()
        differences.count = try row.int64()
        let actor = try row.text()
        let createdAt = Timestamp(try row.timestamp())
        let took = try row.int64()
        let kinds: [String] = try row.array()
        let ids: [String] = try row.array()
        let expected: [String] = try row.array()
        let found: [String] = try row.array()
        differences.list = zip(zip(kinds, ids), zip(expected, found)).map {
            BookDifference(kind: $0.0, id: $0.1, expected: $1.0, found: $1.1)
        }
        return ReconciliationRecord(
            id: id, scope: scope, differences: differences, createdBy: actor, createdAt: createdAt,
            tookMilliseconds: took)
    }
}

extension AdministrationStore: ReconciliationAdministration {
    public func recordReconciliation(
        _ differences: BookDifferences, of scope: ReconciliationScope, tookMilliseconds: Int64, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ReconciliationRecord {
        let id: AuditID = try await change(actor) { change in
            let id: AuditID = change.newID()
            _ = try await change.connection.execute(
                InsertReconciliation(
                    id: id, scope: scope, differences: differences, actor: actor, tookMilliseconds: tookMilliseconds))
            try await change.audit(
                "reconciliation.run", "reconciliation", id.description, tenantID: scope.tenantID, before: nil,
                after: #"{"differences": \#(differences.count)}"#)
            return id
        }
        // The first behind the greatest id that is not it.
        let page = try await reconciliations(PageRequest(limit: 1, after: AuditID(high: id.high, low: id.low &+ 1)))
        guard let record = page.elements.first else {
            throw .refused(Refusal(.internalError, "The comparison could not be kept.", cause: "no such row"))
        }
        return record
    }

    public func reconciliations(
        _ page: PageRequest<AuditID>
    ) async throws(AdministrationFailure) -> Page<ReconciliationRecord> {
        try await list(ListReconciliations(page: page), page)
    }
}
