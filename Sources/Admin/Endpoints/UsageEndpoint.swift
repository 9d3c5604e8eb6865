internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /admin/v1/usage` and `GET /admin/v1/tenants/{id}/usage`: what was used and what it costs, exact to the last
/// commit.
struct UsageEndpoint: Sendable {
    let administration: any Administration
    let prices: any PriceSource
    let time: any TimeSource

    /// Days of all time zones together.
    private static let dayLimit = 20_000

    // MARK: One tenant

    func ofTenant(_ call: AdminCall) async throws -> Response {
        let tenant = try await administration.tenant(try call.tenantID())
        let groups = try Self.groups(call.query, among: [.model, .user, .key])
        let limit = try call.query.integer("limit", in: 1...1_000, default: 1_000)
        let calendar = PeriodCalendar(timeZone: tenant.timeZone) ?? .utc
        let range = try range(call.query, calendar)
        let days =
            groups.unit == nil ? [Day.whole(range)] : try Self.days(of: range, zones: [tenant.timeZone])
        let rows = try await rows(of: tenant.id, days, groups)
        let sheets = try await sheets(of: rows)
        let report: UsageReporter.Report
        do throws(UsageReporter.Failure) {
            report = try UsageReporter().report(
                rows.map(\.usage), sheets: sheets, by: groups.dimensions)
        } catch {
            throw error.refusal
        }
        var currency: String? = report.currency
        if report.currency.isEmpty {
            currency = nil
            if let version = tenant.tierVersionID { currency = try await prices.sheet(version)?.currency }
        }
        let names = days.map(\.name)
        return try .json(
            TenantUsageAnswer(
                start: range.start.description, end: range.end.description, timeZone: tenant.timeZone,
                currency: currency,
                data: report.lines.prefix(limit).map { UsageLine($0, days: names) },
                total: UsageLine(report.total, days: []),
                hasMore: report.lines.count > limit))
    }

    // MARK: All tenants

    func all(_ call: AdminCall) async throws -> Response {
        let groups = try Self.groups(call.query, among: [.tenant, .model, .user, .key])
        let limit = try call.query.integer("limit", in: 1...1_000, default: 1_000)
        let range = try range(call.query, .utc)
        var days = [Day.whole(range)]
        if groups.unit != nil { days = try Self.days(of: range, zones: try await administration.timeZones()) }
        let rows = try await rows(of: nil, days, groups)
        let sheets = try await sheets(of: rows)
        // A day of the same name begins at another instant in another zone and is still the same line.
        let names = Set(days.map(\.name)).sorted()
        let indices = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        var parts: [Part: [UsageRow]] = [:]
        for row in rows {
            guard days.indices.contains(row.usage.day), let day = indices[days[row.usage.day].name] else { continue }
            let part = Part(
                // Never shown: the reporter refuses usage without a sheet.
                currency: sheets[row.usage.tierVersionID]?.currency ?? "",
                tenantID: groups.words.contains(.tenant) ? row.tenantID : nil)
            parts[part, default: []].append(row.usage.moved(toDay: day))
        }
        var lines: [UsageLine] = []
        var totals: [UsageLine] = []
        for part in parts.keys.sorted() {
            let report: UsageReporter.Report
            do throws(UsageReporter.Failure) {
                report = try UsageReporter().report(
                    parts[part] ?? [], sheets: sheets, by: groups.dimensions)
            } catch {
                throw error.refusal
            }
            lines += report.lines.map { UsageLine($0, days: names, tenantID: part.tenantID, currency: part.currency) }
            let total = UsageLine(report.total, days: [], currency: part.currency)
            if totals.last?.currency == part.currency, let last = totals.popLast() {
                totals.append(try last.adding(total))
            } else {
                totals.append(total)
            }
        }
        return try .json(
            AllUsageAnswer(
                start: range.start.description, end: range.end.description, data: Array(lines.prefix(limit)),
                totals: totals,
                hasMore: lines.count > limit))
    }

    private struct Part: Hashable, Comparable {
        let currency: String
        let tenantID: TenantID?

        static func < (left: Part, right: Part) -> Bool {
            guard left.currency == right.currency, let leftID = left.tenantID, let rightID = right.tenantID else {
                return left.currency < right.currency
            }
            return leftID < rightID
        }
    }

    // MARK: Parts

    private struct Day {
        let name: String
        let stretch: TotalUsageQuery.Stretch

        /// The range as one, whatever the zone.
        static func whole(_ range: UsageQuery.Stretch) -> Day {
            Day(name: "", stretch: .init(timeZone: nil, start: range.start, end: range.end))
        }
    }

    private func rows(
        of tenant: TenantID?, _ days: [Day], _ groups: UsageGroups
    ) async throws(AdministrationFailure) -> [TenantUsageRow] {
        try await administration.usage(
            TotalUsageQuery(
                tenantID: tenant, stretches: days.map(\.stretch), groupsByKey: groups.words.contains(.key),
                groupsByUser: groups.words.contains(.user)))
    }

    /// `group_by`, of which days are the only stretch of time.
    private static func groups(_ query: QueryParameters, among words: Set<UsageGroups.Word>) throws(Refusal)
        -> UsageGroups
    {
        try UsageGroups(query, among: words, units: [.day])
    }

    private func range(
        _ query: QueryParameters, _ calendar: PeriodCalendar
    ) throws(Refusal) -> UsageQuery.Stretch {
        try query.usageRange(in: calendar.period(containing: time.now, frequency: .month))
    }

    /// The local days of the range in each zone, cut at the range's ends.
    private static func days(of range: UsageQuery.Stretch, zones: [String]) throws(Refusal) -> [Day] {
        var days: [Day] = []
        for zone in zones {
            let calendar = PeriodCalendar(timeZone: zone) ?? .utc
            var cursor = range.start
            while cursor < range.end {
                guard days.count < dayLimit else {
                    throw .invalid(
                        "start", "spans more than \(dayLimit) days over all time zones",
                        fix: "Ask for a shorter range, or do not group by day.")
                }
                let day = calendar.period(containing: cursor, frequency: .day)
                days.append(
                    Day(
                        name: String(day.id.prefix(10)),
                        stretch: .init(timeZone: zone, start: cursor, end: min(day.end, range.end))))
                cursor = day.end
            }
        }
        return days
    }

    private func sheets(of rows: [TenantUsageRow]) async throws(StoreUnavailable) -> [TierVersionID: PriceSheet] {
        var sheets: [TierVersionID: PriceSheet] = [:]
        for id in Set(rows.map(\.usage.tierVersionID)) { sheets[id] = try await prices.sheet(id) }
        return sheets
    }
}

extension UsageRow {
    fileprivate func moved(toDay day: Int) -> UsageRow {
        UsageRow(
            day: day, model: model, tierVersionID: tierVersionID, keyID: keyID, userID: userID, requests: requests,
            inputTokens: inputTokens,
            cachedInputTokens: cachedInputTokens, outputTokens: outputTokens)
    }
}
