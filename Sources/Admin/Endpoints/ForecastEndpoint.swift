internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /admin/v1/reports/forecast`: what the running month of each tenant will come to, and what the same method was off before.
struct ForecastEndpoint: Sendable {
    let records: any ReportRecords
    let rating: any RatingRecords
    let time: any TimeSource

    private static let columns = [
        "tenant_id", "name", "period_start", "period_end", "currency", "requests_so_far", "tokens_so_far",
        "requests_at_end", "tokens_at_end", "cost_at_end_micros", "request_error_basis_points",
        "token_error_basis_points", "cost_error_basis_points", "compared_periods",
    ]

    func get(_ call: AdminCall) async throws -> Response {
        let now = time.now
        let tenant = try call.query.value("tenant_id", "the id of a tenant", fix: "Leave it out for all.") {
            TenantID($0)
        }
        // Each row is some questions to the database, so a file comes in pages, too.
        let page = try ReportPage(call, of: "forecast \(tenant?.description ?? "")", maximumRows: 100)
        let accounts: [BillingAccount]
        if let tenant {
            guard let account = try await rating.account(tenant) else {
                throw Refusal(.notFound, "There is no such tenant.")
            }
            accounts = [account]
        } else {
            accounts = try await self.accounts(upTo: page.end + 1)
        }
        // The rows before the page are not asked for; they only take their places.
        var rows: [[ReportCell]] = []
        for (index, account) in accounts.enumerated() {
            rows.append(page.shows(index) ? try await row(account, at: now) : [])
        }
        let month = PeriodCalendar.utc.period(containing: now, frequency: .month)
        return try page.answer(
            ReportTable(
                report: "forecast", start: month.start, end: month.end, timeZone: "UTC", columns: Self.columns,
                rows: rows))
    }

    private func accounts(upTo count: Int) async throws(StoreUnavailable) -> [BillingAccount] {
        var accounts: [BillingAccount] = []
        while accounts.count < count {
            let next = try await rating.accounts(
                after: accounts.last?.tenantID, limit: min(1_000, count - accounts.count))
            if next.isEmpty { break }
            accounts += next
        }
        return accounts
    }

    private func row(_ account: BillingAccount, at now: Timestamp) async throws -> [ReportCell] {
        let forecaster = PeriodForecaster(at: now, calendar: PeriodCalendar(timeZone: account.timeZone) ?? .utc)
        let input = try await rating.input(account.tenantID, forecaster.period)
        let hours = try await records.hours(of: account.tenantID, from: forecaster.historyStart, to: now)
        let head: [ReportCell] = [
            .text(account.tenantID.description), .text(account.name), .text(forecaster.period.start.description),
            .text(forecaster.period.end.description),
        ]
        do throws(RatingFailure) {
            let forecast = try forecaster.forecast(hours, input: input)
            return head + [
                .text(forecast.costAtEnd == nil ? nil : input.terms.values.first?.currency),
                .number(forecast.soFar.requests), .number(forecast.soFar.tokens), .number(forecast.atEnd.requests),
                .number(forecast.atEnd.tokens), .number(forecast.costAtEnd?.value),
                .number(forecast.requestErrorBasisPoints), .number(forecast.tokenErrorBasisPoints),
                .number(forecast.costErrorBasisPoints), .number(Int64(forecast.comparedPeriods)),
            ]
        } catch {
            // One tenant whose tiers have two currencies must not hide all the others.
            let soFar = input.usage.reduce(Int64(0)) { $0 &+ $1.requests }
            let unknown: [ReportCell] = Array(repeating: .number(nil), count: Self.columns.count - 6)
            return head + [.text(nil), .number(soFar)] + unknown
        }
    }
}
