public import Domain
internal import PostgresDriver

extension AdministrationStore: PrepaidRecords, AdjustmentRecords {
    public func setPrepaid(
        _ tenant: TenantID, _ isPrepaid: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PrepaidStanding {
        try await change(actor) { change in try await change.setPrepaid(tenant, isPrepaid) }
    }

    public func prepaidTenants(after: TenantID?, limit: Int) async throws(AdministrationFailure) -> [TenantID] {
        try await read(ListPrepaidTenants(after: after, limit: limit))
    }

    public func weigh(_ tenant: TenantID, _ rule: BalanceRule) async throws(AdministrationFailure) -> Bool {
        try await change(.system) { change in
            let bill = try await change.holdBills(of: tenant)
            let balance = try await rule(bill)
            return try await change.connection.affectedRows(
                by: NoteExhaustion(tenantID: tenant, isExhausted: balance.map { $0 <= .zero } ?? false)) == 1
        }
    }

    public func adjust(
        _ adjustment: NewAdjustment, by actor: AuditActor
    ) async throws(AdministrationFailure) -> AdjustmentRow {
        try await change(actor) { change in try await change.adjust(adjustment) }
    }
}

extension AdministrationTransaction {
    func setPrepaid(_ tenant: TenantID, _ isPrepaid: Bool) async throws -> PrepaidStanding {
        if try await connection.affectedRows(by: SetPrepaid(tenantID: tenant, isPrepaid: isPrepaid)) == 1 {
            try await audit(
                "tenant.prepaid", "tenant", tenant.description, tenantID: tenant,
                before: "{\"prepaid\": \(!isPrepaid)}", after: "{\"prepaid\": \(isPrepaid)}")
        }
        guard let standing = try await connection.execute(FindPrepaidStanding(tenantID: tenant)).first else {
            throw Refusal.noSuchTenant
        }
        return standing
    }

    func adjust(_ adjustment: NewAdjustment) async throws -> AdjustmentRow {
        guard let tenant = try await connection.execute(ReadRequestSum(requestID: adjustment.requestID)).first?.tenantID
        else { throw Refusal(.notFound, "No request of this id was charged.") }
        // Two corrections of one request must not each find enough.
        _ = try await holdBills(of: tenant)
        guard let found = try await connection.execute(ReadRequestSum(requestID: adjustment.requestID)).first else {
            throw Refusal(.notFound, "No request of this id was charged.")
        }
        let changes = [
            adjustment.requests, adjustment.inputTokens, adjustment.cachedInputTokens, adjustment.outputTokens,
        ]
        let sum = zip(found.sum, changes).map { $0 + $1 }
        for (name, value) in zip(["requests", "input_tokens", "cached_input_tokens", "output_tokens"], sum)
        where value < 0 {
            throw Refusal.invalid(
                "/\(name)", "takes more than was charged", fix: "The request and its corrections come to \(found.sum).")
        }
        guard sum[2] <= sum[1] else {
            throw Refusal.invalid(
                "/cached_input_tokens", "would be more than all input tokens", fix: "They are a part of input_tokens.")
        }
        let entry: RequestID = newID()
        _ = try await connection.execute(InsertCorrection(entryID: entry, adjustment: adjustment))
        _ = try await connection.execute(
            InsertAdjustment(entryID: entry, tenantID: tenant, adjustment: adjustment, actor: actor))
        let after = try await connection.execute(DescribeAdjustment(entryID: entry)).first
        try await audit(
            "adjustment.post", "adjustment", entry.publicText, tenantID: tenant, before: nil, after: after)
        return AdjustmentRow(entryID: entry, tenantID: tenant, adjustment: adjustment, sum: sum)
    }
}
