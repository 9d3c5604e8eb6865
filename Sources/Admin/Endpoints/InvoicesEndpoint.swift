internal import Billing
internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// `/admin/v1/invoices`: what tenants are asked to pay.
struct InvoicesEndpoint: Sendable {
    let parts: AdminServer.Invoices?

    func list(_ call: AdminCall) async throws -> Response {
        let tenant = try call.query.value("tenant", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        let state = try call.query.value(
            "state", "draft, finalised, paid or void", fix: "Leave it out for all."
        ) { InvoiceState(rawValue: $0) }
        let page = try call.query.page { InvoiceID(publicText: $0) }
        let rows = try await present.records.invoices(InvoiceQuery(tenantID: tenant, state: state, page: page))
        return try .json(ListAnswer(rows, cursor: \.id.publicText) { InvoiceAnswer($0) })
    }

    func draft(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["tenant", "month"])
        let tenant = input.required("tenant", .tenantID)
        let month = input.optional("month", .month)
        try input.problems.check()
        guard let tenant else { throw input.problems.refusal }
        guard let invoice = try await present.issuing.draft(tenant, month: month, by: call.actor) else {
            throw Refusal(.conflict, "There is nothing to invoice: the month has neither a subscription nor usage.")
        }
        var response = try Response.json(InvoiceAnswer(invoice), status: .created)
        response.headers[.location] = "/admin/v1/invoices/\(invoice.row.id.publicText)"
        return response
    }

    func run(_ call: AdminCall) async throws -> Response {
        try .json(RunAnswer(try await present.issuing.run(by: call.actor)))
    }

    func one(_ call: AdminCall) async throws -> Response { try .json(InvoiceAnswer(try await invoice(call))) }

    func html(_ call: AdminCall) async throws -> Response {
        InvoiceDocument.html(InvoicePage(try await invoice(call)).html)
    }

    func pdf(_ call: AdminCall) async throws -> Response {
        let invoice = try await invoice(call)
        return InvoiceDocument.pdf(
            try await present.printer.pdf(Array(InvoicePage(invoice).html.utf8)), name: Self.fileName(invoice))
    }

    func csv(_ call: AdminCall) async throws -> Response {
        let invoice = try await invoice(call)
        return InvoiceDocument.csv(InvoiceTable.csv(invoice), name: Self.fileName(invoice))
    }

    func finalise(_ call: AdminCall) async throws -> Response {
        try .json(InvoiceAnswer(try await present.issuing.finalise(try Self.id(call), by: call.actor)))
    }

    func pay(_ call: AdminCall) async throws -> Response {
        try await present.records.pay(try Self.id(call), by: call.actor)
        return try await one(call)
    }

    func void(_ call: AdminCall) async throws -> Response {
        let id = try Self.id(call)
        let input = try await RequestBodyReader.object(call, fields: ["reason", "reissue"])
        let reason = input.required("reason", .text(length: 1...500))
        let isReissued = input.optional("reissue", .boolean) ?? true
        try input.problems.check()
        guard let reason else { throw input.problems.refusal }
        try await present.records.void(id, InvoiceVoiding(reason: reason, isReissued: isReissued), by: call.actor)
        return try await one(call)
    }

    func credit(_ call: AdminCall) async throws -> Response {
        let id = try Self.id(call)
        let input = try await RequestBodyReader.object(call, fields: ["amount_micros", "reason", "as"])
        let amount = input.required("amount_micros", .integer(1...Int64.max))
        let reason = input.required("reason", .text(length: 1...500))
        let form = input.optional("as", .oneOf(CreditForm.allCases)) ?? .credit
        try input.problems.check()
        guard let amount, let reason else { throw input.problems.refusal }
        let note = try await present.records.credit(
            id, amount: Micros(amount), reason: reason, asCredit: form == .credit, by: call.actor)
        var response = try Response.json(InvoiceAnswer(try await present.records.invoice(note)), status: .created)
        response.headers[.location] = "/admin/v1/invoices/\(note.publicText)"
        return response
    }

    func issuers(_ call: AdminCall) async throws -> Response {
        let issuers = try await present.records.issuers().map { IssuerAnswer($0) }
        return try .json(
            ListAnswer(data: issuers, firstID: issuers.first?.issuer, lastID: issuers.last?.issuer, hasMore: false))
    }

    func setIssuer(_ call: AdminCall) async throws -> Response {
        guard let code = call.context.parameters.get("issuer") else { throw Refusal(.notFound, "There is no issuer.") }
        let input = try await RequestBodyReader.object(
            call, fields: ["name", "address", "tax_id", "number_prefix"])
        let name = input.required("name", .name)
        let address = input.optional("address", .address) ?? ""
        let taxID = input.optional("tax_id", .text(length: 0...100)) ?? ""
        let prefix = input.optional("number_prefix", .numberPrefix) ?? "INV-"
        try input.problems.check()
        guard let name else { throw input.problems.refusal }
        let issuer = try await present.records.setIssuer(
            InvoiceIssuer(code: code, name: name, address: address, taxID: taxID, numberPrefix: prefix, lastNumber: 0),
            by: call.actor)
        return try .json(IssuerAnswer(issuer))
    }

    // MARK: Parts

    private enum CreditForm: String, CaseIterable { case credit, money }

    private var present: AdminServer.Invoices {
        get throws(Refusal) {
            guard let parts else { throw Refusal(.notFound, "This server has no invoices.") }
            return parts
        }
    }

    private func invoice(_ call: AdminCall) async throws -> Invoice {
        try await present.records.invoice(try Self.id(call))
    }

    private static func id(_ call: AdminCall) throws(Refusal) -> InvoiceID {
        guard let text = call.context.parameters.get("id"), let id = InvoiceID(publicText: text) else {
            throw Refusal(.notFound, "There is no such invoice.")
        }
        return id
    }

    private static func fileName(_ invoice: Invoice) -> String {
        invoice.row.numberText ?? invoice.row.id.publicText
    }
}

private struct RunAnswer: Encodable {
    struct Refused: Encodable {
        let tenantID: String
        let detail: String

        enum CodingKeys: String, CodingKey {
            case detail
            case tenantID = "tenant_id"
        }
    }

    let object = "invoice_run"
    let finalised: Int
    let refused: [Refused]

    init(_ outcome: InvoiceIssuing.Outcome) {
        finalised = outcome.finalised
        refused = outcome.refused.map { Refused(tenantID: $0.tenantID.description, detail: $0.detail) }
    }
}

private struct IssuerAnswer: Encodable {
    let object = "issuer"
    let issuer: String
    let name: String
    let address: String
    let taxID: String
    let numberPrefix: String
    let lastNumber: Int64

    enum CodingKeys: String, CodingKey {
        case object, issuer, name, address
        case taxID = "tax_id"
        case numberPrefix = "number_prefix"
        case lastNumber = "last_number"
    }

    init(_ row: InvoiceIssuer) {
        issuer = row.code
        name = row.name
        address = row.address
        taxID = row.taxID
        numberPrefix = row.numberPrefix
        lastNumber = row.lastNumber
    }
}

extension InputRule where Value == String {
    fileprivate static var numberPrefix: InputRule {
        InputRule(
            expectation: "at most 16 capital letters, digits and hyphens", fix: "Send a prefix such as INV-."
        ) { value in
            guard case .string(let text) = value, text.utf8.count <= 16,
                text.utf8.allSatisfy({ (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D })
            else { return nil }
            return text
        }
    }

    fileprivate static var address: InputRule {
        InputRule(expectation: "at most 1000 characters in lines", fix: "Divide lines by \\n.") { value in
            guard case .string(let text) = value, text.unicodeScalars.count <= 1_000,
                !hasControlCharacter(text.replacing("\n", with: ""))
            else { return nil }
            return text
        }
    }
}

extension InputRule where Value == TenantID {
    static var tenantID: InputRule {
        InputRule(expectation: "a tenant's id", fix: "Take one from GET /admin/v1/tenants.") { value in
            guard case .string(let text) = value else { return nil }
            return TenantID(text)
        }
    }
}
