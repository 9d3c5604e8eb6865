internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /admin/v1/reports/…`: what all tenants used and what became of their requests, from roll-ups and the tail that is not in them yet.
struct ReportsEndpoint: Sendable {
    let records: any ReportRecords
    let prices: any PriceSource
    let time: any TimeSource

    /// Thirteen months, of the longest.
    private static let dayLimit: Int64 = 397
    /// A class of each quarter of an hour is read for it, not one number.
    private static let latencyDayLimit: Int64 = 93
    private static let groupLimit = 200_000

    // MARK: usage

    func usage(_ call: AdminCall) async throws -> Response {
        let range = try ReportRange(call, at: time.now, dayLimit: Self.dayLimit)
        let groups = try UsageGroups(call.query, among: Set(UsageGroups.Word.allCases))
        let page = try ReportPage(call, of: "usage \(range) \(groups.text)")
        let stretches = try groups.stretches(of: range.stretch, range.calendar)
        let byTenant = groups.words.contains(.tenant)
        let rows = try await rows(stretches.map(\.stretch), by: groups.words)
        let sheets = try await sheets(of: rows)
        var lines: [(tenant: TenantID?, currency: String, line: UsageReporter.Line)] = []
        for (part, rows) in Self.parted(rows, sheets, byTenant: byTenant) {
            let report = try Self.report(rows, sheets, by: groups.dimensions)
            lines += report.lines.map { (part.tenantID, part.currency, $0) }
        }
        // Time first, as everybody reads it; the rest is in order already.
        lines = lines.enumerated().sorted { left, right in
            let (first, second) = (left.element.line.day ?? 0, right.element.line.day ?? 0)
            return first == second ? left.offset < right.offset : first < second
        }.map(\.element)
        return try page.answer(
            ReportTable(
                report: "usage", start: range.start, end: range.end, timeZone: range.timeZone,
                columns: UsageTable.columns(groups),
                rows: lines.map { tenant, currency, line in
                    var row = UsageTable.Row(currency: currency, sums: Self.quantities(line))
                    (row.tenantID, row.time) = (tenant, line.day.map { stretches[$0].name })
                    (row.tag, row.tier, row.model) = (line.tag, line.tier, line.model)
                    (row.userID, row.keyID) = (line.userID, line.keyID)
                    return UsageTable.cells(row, groups)
                }))
    }

    // MARK: customers and tiers

    func topCustomers(_ call: AdminCall) async throws -> Response {
        let range = try ReportRange(call, at: time.now, dayLimit: Self.dayLimit)
        let order =
            try call.query.value("order_by", "cost, requests or tokens", fix: "Leave it out for cost.") { text in
                ["cost", "requests", "tokens"].contains(text) ? text : nil
            } ?? "cost"
        let page = try ReportPage(call, of: "top-customers \(range) \(order)")
        let rows = try await rows([range.stretch], by: [.tenant])
        let sheets = try await sheets(of: rows)
        var lines: [(part: Part, line: UsageReporter.Line)] = []
        for (part, rows) in Self.parted(rows, sheets, byTenant: true) {
            lines.append((part, try Self.report(rows, sheets, by: []).total))
        }
        func measure(_ line: UsageReporter.Line) -> Int128 {
            switch order {
            case "requests": Int128(line.requests)
            case "tokens": Int128(line.inputTokens) + Int128(line.outputTokens)
            default: Int128(line.cost.value)
            }
        }
        // Costs of two currencies have no order; `sorted` is stable, and equal ones stay in the order of their ids.
        lines.sort { left, right in
            if order == "cost", left.part.currency != right.part.currency {
                return left.part.currency < right.part.currency
            }
            return measure(left.line) > measure(right.line)
        }
        let names = try await records.names(of: lines.compactMap(\.part.tenantID))
        return try page.answer(
            ReportTable(
                report: "top-customers", start: range.start, end: range.end, timeZone: range.timeZone,
                columns: ["tenant_id", "name", "currency"] + UsageTable.sums,
                rows: lines.map { part, line in
                    [
                        .text(part.tenantID?.description), .text(part.tenantID.flatMap { names[$0] }),
                        .text(part.currency),
                    ] + Self.cells(line)
                }))
    }

    func revenueByTier(_ call: AdminCall) async throws -> Response {
        let range = try ReportRange(call, at: time.now, dayLimit: Self.dayLimit)
        let page = try ReportPage(call, of: "revenue-by-tier \(range)")
        let rows = try await rows([range.stretch], by: [.tenant])
        let sheets = try await sheets(of: rows)
        var tenants: [String: Set<TenantID>] = [:]
        for row in rows {
            if let tier = sheets[row.usage.tierVersionID]?.tierCode, let tenant = row.tenantID {
                tenants[tier, default: []].insert(tenant)
            }
        }
        var invoiced = try await records.invoiced(from: range.start, to: range.end)
        var cells: [[ReportCell]] = []
        for (part, rows) in Self.parted(rows, sheets, byTenant: false) {
            for line in try Self.report(rows, sheets, by: [.tier]).lines {
                let count = tenants[line.tier ?? ""]?.count ?? 0
                let place = invoiced.firstIndex { $0.tier == line.tier && $0.currency == part.currency }
                let amount = place.map { invoiced.remove(at: $0) }
                cells.append(
                    [.text(line.tier), .text(part.currency), .number(Int64(count))] + Self.cells(line)
                        + [.number(amount?.invoices ?? 0), .number(amount?.amount.value ?? 0)])
            }
        }
        // Fees without usage, what was carried over, and credit notes.
        for amount in invoiced {
            cells.append(
                [
                    .text(amount.tier), .text(amount.currency), .number(0), .number(0), .number(0), .number(0),
                    .number(0),
                ]
                    + [.number(0), .number(amount.invoices), .number(amount.amount.value)])
        }
        return try page.answer(
            ReportTable(
                report: "revenue-by-tier", start: range.start, end: range.end, timeZone: range.timeZone,
                columns: ["tier", "currency", "tenants"] + UsageTable.sums + ["invoices", "invoiced_micros"],
                rows: cells))
    }

    // MARK: what became of requests

    func errors(_ call: AdminCall) async throws -> Response {
        let range = try ReportRange(call, at: time.now, dayLimit: Self.dayLimit)
        let page = try ReportPage(call, of: "errors \(range)")
        let outcomes = try await records.outcomes(from: range.start, to: range.end)
        var all: [String: Int64] = [:]
        for outcome in outcomes { all[outcome.model, default: 0] += outcome.requests }
        var rows: [[ReportCell]] = []
        for (model, requests) in all.sorted(by: { $0.key < $1.key }) {
            let failures = outcomes.filter { $0.model == model && $0.failure != nil }
            func row(_ failure: OutcomeCount.Failure?, _ count: Int64) -> [ReportCell] {
                [
                    .text(model), .text(failure?.code), .number(failure.map { Int64($0.httpStatus) }), .number(count),
                    .number(requests), .number(requests > 0 ? Int64(Int128(count) * 10_000 / Int128(requests)) : nil),
                ]
            }
            rows.append(row(nil, failures.reduce(0) { $0 + $1.requests }))
            rows += failures.map { row($0.failure, $0.requests) }
        }
        return try page.answer(
            ReportTable(
                report: "errors", start: range.start, end: range.end, timeZone: range.timeZone,
                columns: ["model", "error_code", "http_status", "errors", "requests", "error_share_basis_points"],
                rows: rows))
    }

    func latency(_ call: AdminCall) async throws -> Response {
        let range = try ReportRange(call, at: time.now, dayLimit: Self.latencyDayLimit)
        let page = try ReportPage(call, of: "latency \(range)")
        var models: [String: LatencyHistogram] = [:]
        for count in try await records.latencies(from: range.start, to: range.end) {
            models[count.model, default: LatencyHistogram()].add(count.requests, ofClass: count.latencyClass)
        }
        return try page.answer(
            ReportTable(
                report: "latency", start: range.start, end: range.end, timeZone: range.timeZone,
                columns: ["model", "requests", "p50_us", "p95_us", "p99_us"],
                rows: models.sorted { $0.key < $1.key }.map { model, histogram in
                    [.text(model), .number(histogram.total)]
                        + [500, 950, 990].map { .number(histogram.quantile(permille: $0)) }
                }, errorBasisPoints: LatencyHistogram.errorBasisPoints))
    }

    // MARK: Parts

    /// As ``UsageTable/sums``.
    private static func quantities(_ line: UsageReporter.Line) -> [Int64] {
        [line.requests, line.inputTokens, line.cachedInputTokens, line.outputTokens, line.cost.value]
    }

    private static func cells(_ line: UsageReporter.Line) -> [ReportCell] { quantities(line).map { .number($0) } }

    private func rows(_ stretches: [UsageQuery.Stretch], by words: Set<UsageGroups.Word>) async throws -> [ReportRow] {
        let rows = try await records.usage(
            ReportQuery(
                stretches: stretches, groupsByTenant: words.contains(.tenant), groupsByKey: words.contains(.key),
                groupsByUser: words.contains(.user), groupsByTag: words.contains(.tag), groupLimit: Self.groupLimit))
        guard rows.count <= Self.groupLimit else {
            throw Refusal.invalid(
                "start", "makes more than \(Self.groupLimit) groups",
                fix: "Ask for a shorter range, or group by less.")
        }
        return rows
    }

    private func sheets(of rows: [ReportRow]) async throws(StoreUnavailable) -> [TierVersionID: PriceSheet] {
        var sheets: [TierVersionID: PriceSheet] = [:]
        for id in Set(rows.map(\.usage.tierVersionID)) { sheets[id] = try await prices.sheet(id) }
        return sheets
    }

    private struct Part: Hashable {
        let currency: String
        let tenantID: TenantID?
    }

    /// By currency and perhaps tenant, in their order.
    private static func parted(
        _ rows: [ReportRow], _ sheets: [TierVersionID: PriceSheet], byTenant: Bool
    ) -> [(part: Part, rows: [UsageRow])] {
        var parts: [Part: [UsageRow]] = [:]
        for row in rows {
            // Never shown: the reporter refuses usage without a sheet.
            let currency = sheets[row.usage.tierVersionID]?.currency ?? ""
            parts[Part(currency: currency, tenantID: byTenant ? row.tenantID : nil), default: []].append(row.usage)
        }
        return parts.sorted { left, right in
            guard left.key.currency == right.key.currency, let first = left.key.tenantID,
                let second = right.key.tenantID
            else { return left.key.currency < right.key.currency }
            return first < second
        }.map { ($0.key, $0.value) }
    }

    private static func report(
        _ rows: [UsageRow], _ sheets: [TierVersionID: PriceSheet], by dimensions: Set<UsageReporter.Dimension>
    ) throws(Refusal) -> UsageReporter.Report {
        do throws(UsageReporter.Failure) {
            return try UsageReporter().report(rows, sheets: sheets, by: dimensions)
        } catch {
            throw error.refusal
        }
    }
}
