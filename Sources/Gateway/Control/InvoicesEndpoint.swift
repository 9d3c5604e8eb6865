internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/api/v1/invoices` and `/api/v1/credits`: what a tenant was asked to pay, from which requests, and what pays for it.
struct InvoicesEndpoint: Sendable {
    let invoices: any CustomerInvoices
    let printer: any InvoicePrinter
    let balances: any CustomerBalances

    func list(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try QueryParameters(request, allowed: ["limit", "after"])
        let limit = try query.integer("limit", in: 1...100, default: 20)
        let after = try query.value("after", "an invoice's id", fix: "Take it from last_id of a page.") {
            InvoiceID(publicText: $0)
        }
        var rows = try await invoices.invoices(try context.caller.tenantID, after: after, limit: limit + 1)
        let hasMore = rows.count > limit
        if hasMore { rows.removeLast() }
        return try .json(
            ListAnswer(
                data: rows.map { InvoiceAnswer($0) }, firstID: rows.first?.id.publicText,
                lastID: rows.last?.id.publicText, hasMore: hasMore))
    }

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        return try .json(InvoiceAnswer(try await invoice(context)))
    }

    func html(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        return InvoiceDocument.html(InvoicePage(try await invoice(context)).html)
    }

    func pdf(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let invoice = try await invoice(context)
        let bytes = try await printer.pdf(Array(InvoicePage(invoice).html.utf8))
        return InvoiceDocument.pdf(bytes, name: Self.fileName(invoice))
    }

    func csv(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let invoice = try await invoice(context)
        return InvoiceDocument.csv(InvoiceTable.csv(invoice), name: Self.fileName(invoice))
    }

    func requests(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try QueryParameters(request, allowed: ["limit", "after"])
        let limit = try query.integer("limit", in: 1...1_000, default: 100)
        let after = try query.value("after", "the id of an entry", fix: "Take it from last_id of a page.") {
            Domain.RequestID(publicText: $0)
        }
        guard let id = Self.id(context), let text = context.parameters.get("line"), let line = Int(text), line >= 1,
            var rows = try await invoices.requests(
                behind: line, of: id, tenantID: try context.caller.tenantID, after: after, limit: limit + 1)
        else { throw Self.noInvoice }
        let hasMore = rows.count > limit
        if hasMore { rows.removeLast() }
        return try .json(
            ListAnswer(
                data: rows.map { BilledRequestAnswer($0) }, firstID: rows.first?.entryID.publicText,
                lastID: rows.last?.entryID.publicText, hasMore: hasMore))
    }

    func credits(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let tenant = try context.caller.tenantID
        let rows = try await invoices.credits(tenant)
        return try .json(
            CreditsAnswer(
                balance: try await balances.balance(of: tenant).map { BalanceAnswer($0) },
                data: rows.map { CreditGrantAnswer($0) }, firstID: rows.first?.id.publicText,
                lastID: rows.last?.id.publicText))
    }

    // MARK: Parts

    private func invoice(_ context: ControlContext) async throws -> Invoice {
        guard let id = Self.id(context),
            let invoice = try await invoices.invoice(id, tenantID: try context.caller.tenantID)
        else { throw Self.noInvoice }
        return invoice
    }

    private static func id(_ context: ControlContext) -> InvoiceID? {
        context.parameters.get("id").flatMap { InvoiceID(publicText: $0) }
    }

    private static func fileName(_ invoice: Invoice) -> String {
        invoice.row.numberText ?? invoice.row.id.publicText
    }

    private static let noInvoice = Refusal(.notFound, "There is no such invoice, or it is not yours to see.")
}

/// A list with the balance of a tenant that pays ahead; `null` for others.
private struct CreditsAnswer: Encodable {
    let object = "list"
    let balance: BalanceAnswer?
    let data: [CreditGrantAnswer]
    let firstID: String?
    let lastID: String?

    enum CodingKeys: String, CodingKey {
        case object, balance, data
        case firstID = "first_id"
        case lastID = "last_id"
        case hasMore = "has_more"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(object, forKey: .object)
        try container.encode(balance, forKey: .balance)
        try container.encode(data, forKey: .data)
        try container.encode(firstID, forKey: .firstID)
        try container.encode(lastID, forKey: .lastID)
        try container.encode(false, forKey: .hasMore)
    }
}

private struct BalanceAnswer: Encodable {
    let currency: String
    let balanceMicros: Int64
    let lookedAt: String

    enum CodingKeys: String, CodingKey {
        case currency
        case balanceMicros = "balance_micros"
        case lookedAt = "looked_at"
    }

    init(_ balance: PrepaidBalance) {
        currency = balance.currency
        balanceMicros = balance.amount.value
        lookedAt = balance.lookedAt.description
    }
}

private struct BilledRequestAnswer: Encodable {
    let object = "billed_request"
    let id: String
    let requestID: String
    let kind: String
    let model: String
    let occurredAt: String
    let quantity: Int64

    enum CodingKeys: String, CodingKey {
        case object, id, kind, model, quantity
        case requestID = "request_id"
        case occurredAt = "occurred_at"
    }

    init(_ row: BilledRequest) {
        id = row.entryID.publicText
        requestID = row.requestID.publicText
        kind = row.isCorrection ? "correction" : "usage"
        model = row.model
        occurredAt = row.occurredAt.description
        quantity = row.quantity
    }
}
