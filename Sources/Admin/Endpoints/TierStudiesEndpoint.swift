internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/tiers/analysis` and replays: what tiers would have cost.
struct TierStudiesEndpoint: Sendable {
    let administration: any Administration
    let studies: AdminServer.TierStudies

    // MARK: Analysis

    func analysis(_ call: AdminCall) async throws -> Response {
        let count = try call.query.integer("periods", in: TierAnalyst.periodLimit, default: 3)
        let limit = try call.query.integer("limit", in: 1...100, default: 20)
        let after = try call.query.value(
            "after", "a cursor of this list", fix: "Take it from last_id of a page."
        ) { TenantID($0) }
        var accounts = try await studies.analyst.accounts(after: after, limit: limit + 1)
        let hasMore = accounts.count > limit
        if hasMore { accounts.removeLast() }
        var answers: [TierAnalysisAnswer] = []
        for account in accounts {
            do {
                answers.append(
                    TierAnalysisAnswer(account, try await studies.analyst.analyse(account, periods: count)))
            } catch let failure as RatingFailure {
                answers.append(TierAnalysisAnswer(account, failure))
            }
        }
        return try .json(
            ListAnswer(
                data: answers, firstID: accounts.first?.tenantID.description,
                lastID: accounts.last?.tenantID.description, hasMore: hasMore))
    }

    // MARK: Replay

    func replay(_ call: AdminCall) async throws -> Response {
        let name = try call.tierVersion()
        let input = try await RequestBodyReader.object(
            call, fields: ["scope", "periods", "until", "shock_percent", "shock_amount_micros", "tenant_id"])
        let order = ReplayOrder(
            scope: input.optional("scope", .oneOf(ReplayOrder.Scope.allCases)) ?? .tier,
            periods: Int(input.optional("periods", .integer(1...24)) ?? 1), until: input.nullable("until", .month))
        let shock = BillShock(
            percent: input.optional("shock_percent", .integer(0...1_000_000)) ?? 25,
            amount: Micros(input.optional("shock_amount_micros", .integer(0...Int64.max)) ?? 1_000_000))
        let tenant = input.nullable("tenant_id", .tenantID)
        try input.problems.check()
        let row = try await administration.tierVersion(name)
        if let tenant {
            do {
                guard let bills = try await studies.replayer.bills(tenant, row.terms, order) else {
                    throw Refusal(.notFound, "There is no such tenant.")
                }
                return try .json(TenantReplayAnswer(row, tenant, bills))
            } catch let failure as RatingFailure {
                throw failure.refusal
            }
        }
        let summary = try await studies.replayer.replay(row.terms, order, shock: shock)
        var answer = try TierReplayAnswer(row, order, summary)
        let result = try JSONText.sorted(answer)
        answer.digest = try await administration.recordReplay(
            name, of: row.version.offer, result: result, isWhole: order.isWhole, by: call.actor)
        return try .json(answer)
    }

    func replays(_ call: AdminCall) async throws -> Response {
        let name = try call.tierVersion()
        let page = try await administration.tierReplays(of: name, try call.query.page { TierReplayID($0) })
        return try .json(ListAnswer(page, cursor: \.id.description, PastReplayAnswer.init))
    }

    /// Every issued invoice, rated anew from what it charges.
    func replayIssued(_ call: AdminCall) async throws -> Response {
        let tenant = try call.query.value("tenant", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        return try .json(InvoiceReplayAnswer(try await studies.issued.replay(only: tenant)))
    }
}

extension InputRule where Value == CivilDate {
    static var month: InputRule {
        InputRule(expectation: "a month", fix: "Send it as 2026-03.") { value in
            guard case .string(let text) = value, text.utf8.count == 7 else { return nil }
            return CivilDate(iso8601: text + "-01")
        }
    }
}
