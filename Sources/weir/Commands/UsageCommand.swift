import ArgumentParser
import Foundation
import HTTPListener

struct UsageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "usage",
        abstract: "Report what was used and what it cost.",
        discussion: """
            Examples:
              weir usage report --group-by tenant,model
              weir usage report --tenant 0195a3bf-30c4-7a52-bb10-6d7e8f901a2b --group-by day --start 2026-03-01T00:00:00+01:00
              weir usage export --start 2026-03-01T00:00:00Z --end 2026-04-01T00:00:00Z --to march.csv
              weir usage rebuild --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
            """,
        subcommands: [Report.self, UsageExportCommand.self, Rebuild.self])

    struct Rebuild: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compute the sums of a range of time anew from the ledger and the requests.",
            discussion: "Times are RFC 3339 with an offset, on quarters of an hour. The numbers must not change.")
        @Option(help: "The first instant.") var from: String
        @Option(help: "The first instant that is left alone.") var to: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let body = ["from": from, "to": to]
            try await admin.send(
                AdminRequest(.post, ["usage", "rebuild"], body: body),
                withinSeconds: AdminOptions.wholeInstallationSeconds
            ) { answer in
                let rebuilt = try answer.decoded(AdminRebuild.self)
                return "\(rebuilt.buckets) buckets from \(SafeText.line(rebuilt.from)) to \(SafeText.line(rebuilt.to))"
            }
        }
    }

    struct Report: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Report completed requests, of one tenant or of all.",
            discussion:
                "Times are RFC 3339 with an offset, on quarters of an hour; the start counts, the end does not. Without them it is the current month. By hour, month, tier or tag: weir reports usage."
        )
        @Option(help: ArgumentHelp("Only this tenant.", valueName: "id")) var tenant: String?
        @Option(help: "The first instant.") var start: String?
        @Option(help: "The first instant that no longer counts.") var end: String?
        @Option(help: ArgumentHelp("Any of tenant, day, model, user, key, separated by commas.", valueName: "groups"))
        var groupBy: String?
        @Option(help: "The most rows, 1 to 1000.") var limit: Int?
        @Flag(
            help:
                "Print CSV: a line of names, then the rows; amounts in millionths of the currency's unit. Fails where a thousand rows are not all."
        )
        var csv = false
        @OptionGroup var admin: AdminOptions

        func validate() throws {
            if csv, admin.json { throw ValidationError("--csv and --json exclude each other") }
            let known = (tenant == nil ? ["tenant"] : []) + ["day", "model", "user", "key"]
            for group in (groupBy ?? "").split(separator: ",") where !known.contains(String(group)) {
                throw ValidationError(
                    "--group-by takes \(known.joined(separator: ", "))\(tenant == nil ? "" : " for one tenant"), not \(group)"
                )
            }
            if let limit, !(1...1_000).contains(limit) { throw ValidationError("--limit is from 1 to 1000") }
        }

        func run() async throws {
            let query: [(String, String?)] = [
                ("start", start), ("end", end), ("group_by", groupBy),
                ("limit", limit.map(String.init) ?? (csv ? "1000" : nil)),
            ]
            let path = tenant.map { ["tenants", $0, "usage"] } ?? ["usage"]
            try await admin.send(AdminRequest(.get, path, query: query)) { answer in
                let report = try answer.decoded(AdminUsageReport.self)
                guard csv else {
                    if report.hasMore { Terminal.complain("There are more rows: narrow the time or raise --limit") }
                    return Self.text(report)
                }
                try Terminal.pour(Data(Self.document(report, groups: groupBy ?? "").text.utf8))
                guard report.hasMore else { return "" }
                // A file that lacks its end looks whole.
                guard limit != nil else {
                    throw CommandFailure(
                        "There are more than these \(report.data.count) rows: narrow the time, or, for all tenants, take weir reports usage --csv"
                    )
                }
                Terminal.complain("There are more rows: narrow the time or raise --limit")
                return ""
            }
        }

        /// The rows without their sums, in the columns of the reports.
        static func document(_ report: AdminUsageReport, groups: String) -> CSVDocument {
            let words = groups.split(separator: ",")
            let all: [(word: String, column: String, value: (AdminUsageRow) -> String?)] = [
                ("day", "day", \.day), ("tenant", "tenant_id", \.tenantId), ("model", "model", \.model),
                ("user", "user_id", \.userId), ("key", "key_id", \.keyId),
            ]
            let columns = all.filter { column in words.contains { $0 == column.word } }
            var document = CSVDocument(columns: columns.map(\.column) + ["currency"] + UsageTable.sums)
            for row in report.data {
                let sums = [row.requests, row.inputTokens, row.cachedInputTokens, row.outputTokens, row.costMicros]
                document.add(
                    columns.map { .text($0.value(row)) } + [.text(row.currency ?? report.currency)]
                        + sums.map { .number($0) })
            }
            return document
        }

        /// The rows, a line of sums for each currency, and the time that they cover.
        static func text(_ report: AdminUsageReport) -> String {
            let groups: [(String, (AdminUsageRow) -> String?)] = [
                ("tenant", \.tenantId), ("day", \.day), ("model", \.model), ("user", \.userId), ("key", \.keyId),
            ].filter { _, value in report.data.contains { value($0) != nil } }
            var table = TextTable(groups.map(\.0) + ["requests", "input", "cached", "output", "cost", "currency"])
            func add(_ row: AdminUsageRow, names: [String?]) {
                table.add(
                    names + [
                        String(row.requests), String(row.inputTokens), String(row.cachedInputTokens),
                        String(row.outputTokens),
                        MicrosText.decimal(row.costMicros), row.currency ?? report.currency,
                    ])
            }
            for row in report.data { add(row, names: groups.map { $0.1(row) }) }
            if !groups.isEmpty {
                for total in report.totals ?? report.total.map({ [$0] }) ?? [] {
                    add(total, names: ["total"] + Array(repeating: nil, count: groups.count - 1))
                }
            }
            return "\(SafeText.line(report.start)) to \(SafeText.line(report.end))\n\(table.text)"
        }
    }
}
