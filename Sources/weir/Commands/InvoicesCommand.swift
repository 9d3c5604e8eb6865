import ArgumentParser
import Foundation

struct InvoicesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "invoices",
        abstract: "Draft, issue and export invoices.",
        discussion: """
            Examples:
              weir invoices draft --tenant 0195a3bf-… --month 2026-03
              weir invoices finalize inv_0195a3bf-…
              weir invoices export inv_0195a3bf-… --format pdf --output invoice.pdf
              weir invoices run
            """,
        subcommands: [
            List.self, Show.self, Draft.self, Finalize.self, Pay.self, Void.self, Credit.self, Run.self, Export.self,
            Adjust.self,
        ], defaultSubcommand: List.self)

    struct Row: Decodable {
        struct Line: Decodable {
            let line: Int
            let description: String
            let quantity: String?
            let unitPrice: String?
            let amountMicros: Int64
        }

        let id: String
        let kind: String
        let state: String
        let number: String?
        let customer: String
        let period: String
        let currency: String
        let subtotalMicros: Int64
        let creditsMicros: Int64
        let totalMicros: Int64
        let lines: [Line]?
    }

    private static func table(_ rows: [Row]) -> String {
        var table = TextTable(["invoice", "number", "kind", "state", "customer", "period", "currency", "total_micros"])
        for row in rows {
            table.add([
                row.id, row.number, row.kind, row.state, row.customer, row.period, row.currency, "\(row.totalMicros)",
            ])
        }
        return table.text
    }

    private static func whole(_ answer: AdminAnswer) throws -> String {
        let row = try answer.decoded(Row.self)
        var table = TextTable(["line", "description", "quantity", "unit_price", "amount_micros"])
        for line in row.lines ?? [] {
            table.add(["\(line.line)", line.description, line.quantity, line.unitPrice, "\(line.amountMicros)"])
        }
        return Self.table([row]) + "\n\n" + table.text
            + "\n\nsubtotal \(row.subtotalMicros)  credits \(row.creditsMicros)  total \(row.totalMicros) \(row.currency) micros"
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Invoices, newest first.")
        @Option(help: "Of this tenant only.") var tenant: String?
        @Option(help: "draft, finalised, paid or void.") var state: String?
        @OptionGroup var page: PageOptions
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            let query = page.query + [("tenant", tenant), ("state", state)]
            try await admin.send(AdminRequest(.get, ["invoices"], query: query)) {
                let answer = try $0.decoded(AdminPage<Row>.self)
                page.mention(answer)
                return InvoicesCommand.table(answer.data)
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One invoice with its lines.")
        @Argument(help: "The invoice's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["invoices", id]), show: InvoicesCommand.whole)
        }
    }

    struct Draft: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Draft a tenant's month, again if it has a draft.")
        @Option(help: "The tenant's id.") var tenant: String
        @Option(help: "As 2026-03; by default the month before this one.") var month: String?
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let tenant: String
            let month: String?
        }

        func run() async throws {
            try await admin.send(
                AdminRequest(.post, ["invoices"], body: Body(tenant: tenant, month: month)),
                show: InvoicesCommand.whole)
        }
    }

    struct Finalize: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Issue a draft under the next number.")
        @Argument(help: "The invoice's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["invoices", id, "finalize"]), show: InvoicesCommand.whole)
        }
    }

    struct Pay: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Note that an invoice is paid.")
        @Argument(help: "The invoice's id.") var id: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.post, ["invoices", id, "pay"]), show: InvoicesCommand.whole)
        }
    }

    struct Void: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take an invoice back that is not paid.")
        @Argument(help: "The invoice's id.") var id: String
        @Option(help: "Why; the customer reads it.") var reason: String
        @Flag(help: "Leave the month alone: the run does not issue it anew.") var leaveAlone = false
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let reason: String
            let reissue: Bool
        }

        func run() async throws {
            let body = Body(reason: reason, reissue: !leaveAlone)
            try await admin.send(
                AdminRequest(.post, ["invoices", id, "void"], body: body), show: InvoicesCommand.whole)
        }
    }

    struct Credit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Write a credit note for a part of an invoice.")
        @Argument(help: "The invoice's id.") var id: String
        @Option(help: "How much, in micro-units.") var amountMicros: Int64
        @Option(help: "Why.") var reason: String
        @Flag(help: "Of a paid invoice, give back money, not a credit.") var money = false
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let amountMicros: Int64
            let reason: String
            let `as`: String
        }

        func run() async throws {
            let body = Body(amountMicros: amountMicros, reason: reason, as: money ? "money" : "credit")
            try await admin.send(
                AdminRequest(.post, ["invoices", id, "credit"], body: body), show: InvoicesCommand.whole)
        }
    }

    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Issue the invoices of all months that are over and have none yet, of every tenant.")
        @OptionGroup var admin: AdminOptions

        private struct Answer: Decodable {
            struct Refused: Decodable {
                let tenantId: String
                let detail: String
            }

            let finalised: Int
            let refused: [Refused]
        }

        func run() async throws {
            try await admin.send(
                AdminRequest(.post, ["invoices", "run"]), withinSeconds: AdminOptions.wholeInstallationSeconds
            ) {
                let answer = try $0.decoded(Answer.self)
                let refused = answer.refused.map { SafeText.line("refused \($0.tenantId): \($0.detail)") }
                return (["finalised \(answer.finalised)"] + refused).joined(separator: "\n")
            }
        }
    }

    struct Export: AsyncParsableCommand {
        enum Format: String, ExpressibleByArgument, CaseIterable { case html, pdf, csv }

        static let configuration = CommandConfiguration(abstract: "Write an invoice to a file.")
        @Argument(help: "The invoice's id.") var id: String
        @Option(help: "html, pdf or csv.") var format: Format = .pdf
        @Option(help: "The file.") var output: String
        @OptionGroup var admin: AdminOptions

        func run() async throws {
            try await admin.send(AdminRequest(.get, ["invoices", "\(id).\(format.rawValue)"]), raw: output)
        }
    }

    struct Adjust: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Correct what a request was charged.")
        @Argument(help: "The request's id.") var request: String
        @Option(help: "By how many requests, as -1.") var requests: Int64 = 0
        @Option(help: "By how many input tokens, those from a worker's cache among them.") var inputTokens: Int64 = 0
        @Option(help: "By how many input tokens from a worker's cache.") var cachedInputTokens: Int64 = 0
        @Option(help: "By how many output tokens.") var outputTokens: Int64 = 0
        @Option(help: "Why.") var reason: String
        @OptionGroup var admin: AdminOptions

        private struct Body: Encodable {
            let requestId: String
            let requests: Int64
            let inputTokens: Int64
            let cachedInputTokens: Int64
            let outputTokens: Int64
            let reason: String
        }

        private struct Answer: Decodable {
            let id: String
        }

        func run() async throws {
            let body = Body(
                requestId: request, requests: requests, inputTokens: inputTokens, cachedInputTokens: cachedInputTokens,
                outputTokens: outputTokens, reason: reason)
            try await admin.send(AdminRequest(.post, ["adjustments"], body: body)) {
                "posted \(SafeText.line(try $0.decoded(Answer.self).id))"
            }
        }
    }
}
