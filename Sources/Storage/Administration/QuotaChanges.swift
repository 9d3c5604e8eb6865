public import Domain
internal import PostgresDriver

extension AdministrationTransaction {
    func setQuota(_ quota: NewQuota) async throws -> QuotaRow {
        guard try await !connection.execute(LockTenant(id: quota.tenantID)).isEmpty else { throw Refusal.noSuchTenant }
        guard
            try await connection.execute(FindQuotaHolder(tenantID: quota.tenantID, holder: quota.holder)).first == true
        else {
            throw Refusal.invalid(
                "/\(quota.holder.level)_id", "The tenant has no such \(quota.holder.level).",
                fix: "Take an id of this tenant.")
        }
        let before = try await connection.execute(DescribeQuota(quota)).first
        guard let id = try await connection.execute(UpsertQuota(id: newID(), quota: quota)).first else {
            throw Refusal.noSuchQuota
        }
        return try await changed(id, "quota.set", before: before)
    }

    func raiseQuota(_ id: QuotaID, by amount: Int64, periods: Int) async throws -> QuotaRow {
        guard let quota = try await connection.execute(FindQuota(id: id)).first,
            let times = try await connection.execute(FindQuotaTime(id: id)).first
        else { throw Refusal.noSuchQuota }
        let frequency = quota.rule.frequency
        guard frequency.recurs || periods == 1 else {
            throw Refusal.invalid("/periods", "The quota does not begin anew.", fix: "Send 1.")
        }
        let calendar = PeriodCalendar(timeZone: times.timeZone) ?? .utc
        let first = calendar.period(containing: times.now, frequency: frequency, anchor: times.anchor)
        var end = first.end
        for _ in 1..<periods {
            end = calendar.period(containing: end, frequency: frequency, anchor: times.anchor).end
        }
        let before = try await connection.execute(DescribeQuota(quota)).first
        _ = try await connection.execute(
            InsertQuotaRaise(id: newID(), quota: quota, amount: amount, start: first.start, end: end))
        return try await changed(id, "quota.raise", before: before)
    }

    func deleteQuota(_ id: QuotaID) async throws {
        guard let quota = try await connection.execute(FindQuota(id: id)).first else { throw Refusal.noSuchQuota }
        guard quota.origin == .override else {
            throw Refusal(
                .conflict, "The quota is that of the tenant's tier. Set another in its place, or change the tier.")
        }
        let before = try await connection.execute(DescribeQuota(quota)).first
        if try await connection.affectedRows(by: RestoreTierQuota(id: id)) == 0 {
            _ = try await connection.execute(RetireQuota(id: id))
        }
        let after = try await connection.execute(DescribeQuota(quota)).first
        try await audit("quota.delete", "quota", id.description, tenantID: quota.tenantID, before: before, after: after)
    }

    /// Audits a change unless it changed nothing, and gives the quota as it is now.
    private func changed(_ id: QuotaID, _ action: String, before: String?) async throws -> QuotaRow {
        guard let row = try await connection.execute(FindQuota(id: id)).first else { throw Refusal.noSuchQuota }
        let after = try await connection.execute(DescribeQuota(row)).first
        if before != after {
            try await audit(action, "quota", id.description, tenantID: row.tenantID, before: before, after: after)
        }
        return row
    }
}

extension AdministrationStore {
    public func quotas(of tenantID: TenantID, _ page: PageRequest<QuotaID>) async throws(AdministrationFailure) -> Page<
        QuotaRow
    > {
        _ = try await tenant(tenantID)
        return try await list(ListQuotas(tenantID: tenantID, page: page), page)
    }

    public func setQuota(_ quota: NewQuota, by actor: AuditActor) async throws(AdministrationFailure) -> QuotaRow {
        try await change(actor) { change in try await change.setQuota(quota) }
    }

    public func raiseQuota(
        _ id: QuotaID, by amount: Int64, periods: Int, actor: AuditActor
    ) async throws(AdministrationFailure) -> QuotaRow {
        try await change(actor) { change in try await change.raiseQuota(id, by: amount, periods: periods) }
    }

    public func quotaEvents(
        of tenantID: TenantID?, _ page: PageRequest<QuotaEventID>
    ) async throws(AdministrationFailure) -> Page<QuotaEventRow> {
        try await list(ListQuotaEvents(tenantID: tenantID, page: page), page)
    }

    public func deleteQuota(_ id: QuotaID, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.deleteQuota(id) }
    }
}

extension Refusal {
    static let noSuchQuota = Refusal(.notFound, "There is no such quota.")
}
