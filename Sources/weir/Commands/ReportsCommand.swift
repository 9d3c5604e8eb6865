import ArgumentParser

/// Reports over all tenants.
struct ReportsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reports",
        abstract: "Report on all tenants: usage, customers, tiers, errors, times, forecasts.",
        discussion: """
            Times are RFC 3339 with an offset, on quarters of an hour; without them it is the current month.

            Examples:
              weir reports top-customers --order-by requests
              weir reports usage --group-by day,tier --time-zone Europe/Berlin
              weir reports usage --group-by month,user,key --csv > march.csv
              weir reports latency --start 2026-03-14T00:00:00Z --end 2026-03-15T00:00:00Z
              weir reports forecast --tenant 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b
            """,
        subcommands: [
            Usage.self, TopCustomers.self, RevenueByTier.self, Errors.self, Latency.self, Forecast.self,
        ])

    /// Flags of a report about a time.
    struct RangeOptions: ParsableArguments {
        @Option(help: "The first instant.") var start: String?
        @Option(help: "The first instant that no longer counts.") var end: String?
        @Option(help: "The zone of days and months, as Europe/Berlin.") var timeZone: String?
        @OptionGroup var page: PageFlags

        var query: [(String, String?)] { [("start", start), ("end", end), ("time_zone", timeZone)] + page.query }
    }

    struct PageFlags: ParsableArguments {
        @Option(help: "The most rows, 1 to 1000.") var limit: Int?
        @Option(help: ArgumentHelp("The next page of the same report.", valueName: "page")) var page: String?
        @Flag(
            help:
                "Print CSV: a line of names, then all rows, or those of one page where --limit or --page says so; amounts in millionths of the currency's unit."
        )
        var csv = false

        func validate() throws {
            if let limit, !(1...1_000).contains(limit) { throw ValidationError("--limit is from 1 to 1000") }
        }

        var query: [(String, String?)] {
            [("limit", limit.map(String.init)), ("page", page), ("format", csv ? "csv" : nil)]
        }
    }

    /// Asks for a report and prints its columns in this order, those that it has not left out; or, as CSV, what came.
    static func print(
        _ report: String, _ query: [(String, String?)], columns: [String], csv: Bool, admin: AdminOptions
    ) async throws {
        guard !(csv && admin.json) else { throw ValidationError("--csv and --json exclude each other") }
        if csv { return try await pour(report, query, admin: admin) }
        let request = try AdminRequest(.get, ["reports", report], query: query)
        try await admin.send(request, withinSeconds: AdminOptions.wholeInstallationSeconds) { answer in
            let report = try answer.decoded(AdminReport.self)
            if let next = report.nextPage { Terminal.complain("There is more: --page \(SafeText.line(next))") }
            return Self.text(report, columns: columns)
        }
    }

    /// Prints a report as one file. Most come whole; a forecast comes page after page, and has the line of names once. Who asks for a page or
    /// for so many rows gets that page.
    private static func pour(_ report: String, _ query: [(String, String?)], admin: AdminOptions) async throws {
        let isOnePage = query.contains { ["limit", "page"].contains($0.0) && $0.1 != nil }
        let client = try admin.client()
        var next: String?
        repeat {
            let answer = try await client.send(
                AdminRequest(.get, ["reports", report], query: query + [("page", next)]),
                withinSeconds: AdminOptions.wholeInstallationSeconds)
            let names = answer.body.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? answer.body.endIndex
            try Terminal.pour(next == nil ? answer.body : answer.body[names...])
            if isOnePage, let next = answer.nextPage {
                Terminal.complain("There is more: --page \(SafeText.line(next))")
            }
            guard next == nil || next != answer.nextPage else {
                throw CommandFailure("the file is not whole: the admin API names the same page twice")
            }
            next = isOnePage ? nil : answer.nextPage
        } while next != nil
    }

    static func text(_ report: AdminReport, columns: [String]) -> String {
        let shown = columns.filter { column in report.data.contains { $0[column] != nil } }
        // Shown as a decimal of the currency's unit, so it must not be headed as millionths.
        var table = TextTable(shown.map { $0.hasSuffix("_micros") ? String($0.dropLast("_micros".count)) : $0 })
        for row in report.data {
            table.add(
                shown.map { column in
                    guard let value = row[column] else { return nil }
                    if column.hasSuffix("_micros"), case .number(let micros) = value {
                        return MicrosText.decimal(micros)
                    }
                    return value.text
                })
        }
        return "\(SafeText.line(report.start)) to \(SafeText.line(report.end))\n\(table.text)"
    }

    private static let sums = ["requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_micros"]

    struct Usage: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What was used, by what is asked.")
        @Option(
            help: ArgumentHelp(
                "Any of tenant, model, user, key, tier, tag, and one of hour, day, month, separated by commas; tag not with user or key.",
                valueName: "groups"))
        var groupBy: String?
        @OptionGroup var range: RangeOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await ReportsCommand.print(
                "usage", range.query + [("group_by", groupBy)],
                columns: [
                    "hour", "day", "month", "tenant_id", "tag", "tier", "model", "user_id", "key_id", "currency",
                ] + ReportsCommand.sums, csv: range.page.csv, admin: admin)
        }
    }

    struct TopCustomers: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "top-customers", abstract: "Who used most.")
        @Option(help: "What is compared: cost, requests or tokens.") var orderBy: String?
        @OptionGroup var range: RangeOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await ReportsCommand.print(
                "top-customers", range.query + [("order_by", orderBy)],
                columns: ["tenant_id", "name", "currency"] + ReportsCommand.sums, csv: range.page.csv, admin: admin)
        }
    }

    struct RevenueByTier: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "revenue-by-tier",
            abstract: "What each tier brought in: what its usage comes to, and what was invoiced.")
        @OptionGroup var range: RangeOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await ReportsCommand.print(
                "revenue-by-tier", range.query,
                columns: ["tier", "currency", "tenants"] + ReportsCommand.sums + ["invoices", "invoiced_micros"],
                csv: range.page.csv, admin: admin)
        }
    }

    struct Errors: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Why requests failed.")
        @OptionGroup var range: RangeOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await ReportsCommand.print(
                "errors", range.query,
                columns: ["model", "error_code", "http_status", "errors", "requests", "error_share_basis_points"],
                csv: range.page.csv, admin: admin)
        }
    }

    struct Latency: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "How long requests took: at most an eighth less than what is told.")
        @OptionGroup var range: RangeOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await ReportsCommand.print(
                "latency", range.query, columns: ["model", "requests", "p50_us", "p95_us", "p99_us"],
                csv: range.page.csv, admin: admin)
        }
    }

    struct Forecast: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "What the current month of each tenant will come to, and how far off the months before were.")
        @Option(help: ArgumentHelp("Only this tenant.", valueName: "id")) var tenant: String?
        @OptionGroup var page: PageFlags
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await ReportsCommand.print(
                "forecast", page.query + [("tenant_id", tenant)],
                columns: [
                    "tenant_id", "name", "currency", "requests_so_far", "requests_at_end", "tokens_so_far",
                    "tokens_at_end", "cost_at_end_micros", "request_error_basis_points",
                    "token_error_basis_points", "cost_error_basis_points",
                ], csv: page.csv, admin: admin)
        }
    }
}

/// A report of the admin API: its columns differ, so its rows are read as they come.
struct AdminReport: Decodable, Sendable {
    enum Value: Decodable, Sendable {
        case number(Int64)
        case text(String)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(Int64.self) {
                self = .number(number)
            } else {
                self = .text(try container.decode(String.self))
            }
        }

        var text: String {
            switch self {
            case .number(let number): String(number)
            case .text(let text): text
            }
        }
    }

    let start: String
    let end: String
    let data: [[String: Value]]
    let nextPage: String?

    private enum CodingKeys: String, CodingKey {
        case start, end, data, nextPage
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        start = try container.decode(String.self, forKey: .start)
        end = try container.decode(String.self, forKey: .end)
        nextPage = try container.decodeIfPresent(String.self, forKey: .nextPage)
        // Null is as good as nothing for a table.
        data = try container.decode([[String: Value?]].self, forKey: .data).map { $0.compactMapValues(\.self) }
    }
}
