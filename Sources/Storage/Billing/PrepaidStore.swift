public import Domain
public import PostgresDriver

extension AdministrationStore: PrepaidRecords, AdjustmentRecords {
    public func setPrepaid(
        _ tenant: TenantID, _ isPrepaid: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PrepaidStanding {
        try await change(actor) { change in try await change.setPrepaid(tenant, isPrepaid) }
    }

    public func prepaidTenants(after: TenantID?, limit: Int) async throws(AdministrationFailure) -> [PrepaidTenant] {
        try await read(ListPrepaidTenants(after: after, limit: limit))
    }

    public func prepaidUse(since position: String?) async throws(AdministrationFailure) -> PrepaidUse {
        let rows = try await read(ReadPrepaidUse(position: position))
        var earliest: [TenantID: Timestamp] = [:]
        for row in rows { if let tenant = row.tenantID { earliest[tenant] = row.earliest } }
        return PrepaidUse(position: rows.compactMap(\.position).first ?? position ?? "0", earliest: earliest)
    }

    public func weigh(_ tenant: TenantID, _ rule: BalanceRule) async throws(AdministrationFailure) -> PrepaidWeighing {
        try await change(.system) { change in try await change.weigh(tenant, rule) }
    }

    public func adjust(
        _ adjustment: NewAdjustment, by actor: AuditActor
    ) async throws(AdministrationFailure) -> AdjustmentRow {
        try await change(actor) { change in try await change.adjust(adjustment) }
    }
}

extension BillTransaction: BalanceReading {
    func currency() async throws -> String? {
        try await connection.execute(FindBalanceCurrency(tenantID: account.tenantID)).first
    }

    func unbilled(_ currency: String, from start: Timestamp, to end: Timestamp) async throws -> [BalanceStretch] {
        try await connection.execute(
            ReadUnbilledStretches(tenantID: account.tenantID, currency: currency, start: start, end: end))
    }

    func late(_ currency: String, limit: Int) async throws -> [BalanceStretch] {
        try await connection.execute(ReadLateStretches(tenantID: account.tenantID, currency: currency, limit: limit))
    }
}

/// A customer's own balance, read in one transaction with the tenant set.
public struct CustomerBalanceStore: CustomerBalances {
    private let pool: PostgresPool

    /// - Parameter pool: connections of the role `weir_reader`.
    public init(pool: PostgresPool) { self.pool = pool }

    public func balance(of tenant: TenantID) async throws(StoreUnavailable) -> PrepaidBalance? {
        do throws(PostgresError) {
            return try await pool.pipeline(ActAsTenant(tenantID: tenant), FindBalance(tenantID: tenant)).1.first
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

extension AdministrationTransaction {
    func weigh(_ tenant: TenantID, _ rule: BalanceRule) async throws -> PrepaidWeighing {
        let finding = try await rule(try await holdBills(of: tenant))
        if let finding {
            _ = try await connection.execute(NoteBalance(tenantID: tenant, balance: finding.balance))
        }
        let isExhausted = finding.map { $0.balance.amount <= .zero } ?? false
        // The tenant is held, so this is what it is until the end of the transaction.
        guard let known = try await connection.execute(FindPrepaidStanding(tenantID: tenant)).first, known.isPrepaid,
            known.isExhausted != isExhausted
        else { return PrepaidWeighing(finding: finding, isChanged: false) }
        _ = try await connection.execute(NoteExhaustion(tenantID: tenant, isExhausted: isExhausted))
        let balance = finding.map { "\"\($0.balance.currency)\", \"balance_micros\": \($0.balance.amount.value)" }
        let note = balance.map { ", \"currency\": \($0)" } ?? ""
        try await audit(
            isExhausted ? "tenant.exhaust" : "tenant.replenish", "tenant", tenant.description, tenantID: tenant,
            before: "{\"exhausted\": \(!isExhausted)}", after: "{\"exhausted\": \(isExhausted)\(note)}")
        return PrepaidWeighing(finding: finding, isChanged: true)
    }

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
        let tenant = try await connection.execute(ReadRequestSum(requestID: adjustment.requestID)).first?.tenantID
        let bounds = try await connection.execute(
            FindCorrectionBounds(
                tenantID: tenant, requestID: adjustment.requestID, periodLimit: NewAdjustment.periodLimit)
        ).first
        guard let tenant else {
            if bounds?.isArchived ?? false { throw Refusal.pastCorrection("is of a month that is archived") }
            throw Refusal(.notFound, "No request of this id was charged.")
        }
        if bounds?.isTooOld ?? false {
            throw Refusal.pastCorrection("has \(NewAdjustment.periodLimit) invoiced months behind it or more")
        }
        if bounds?.isLeftAlone ?? false {
            throw Refusal.pastCorrection("is of a month whose invoice is void and not issued anew")
        }
        if bounds?.isBeforeInvoices ?? false { throw Refusal.pastCorrection("lies before the first invoice") }
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

extension Refusal {
    fileprivate static func pastCorrection(_ why: String) -> Refusal {
        .invalid(
            "/request_id", "\(why), so no invoice would have the correction",
            fix: "Write a credit note for its invoice, or grant a credit.")
    }
}
