public import Domain
internal import HTTPTypes
public import Hummingbird
internal import NIOCore

/// An invoice as both listeners answer it; a list leaves its parts out.
public struct InvoiceAnswer: Encodable {
    struct Line: Encodable {
        let line: Int
        let kind: String
        let description: String
        @Present var priceVersion: String?
        @Present var model: String?
        @Present var meter: String?
        @Present var band: Int16?
        let start: String
        let end: String
        @Present var quantity: String?
        @Present var unitPrice: String?
        let amountMicros: Int64

        enum CodingKeys: String, CodingKey {
            case line, kind, description, model, meter, band, start, end, quantity
            case priceVersion = "price_version"
            case unitPrice = "unit_price"
            case amountMicros = "amount_micros"
        }

        init(_ number: Int, _ row: InvoiceLine) {
            line = number
            kind = row.kind.rawValue
            description = row.description
            priceVersion = row.tierVersionID?.priceVersionText
            model = row.model
            meter = row.meter?.rawValue
            band = row.band
            start = row.start.description
            end = row.end.description
            quantity = row.quantityMillionths.map(AmountText.plainQuantity)
            unitPrice = row.unitPrice?.description
            amountMicros = row.amount.value
        }
    }

    struct Credit: Encodable {
        let creditID: String
        let kind: String
        let reason: String
        let amountMicros: Int64

        enum CodingKeys: String, CodingKey {
            case kind, reason
            case creditID = "credit_id"
            case amountMicros = "amount_micros"
        }

        init(_ credit: InvoiceCredit) {
            creditID = credit.grantID.publicText
            kind = credit.kind
            reason = credit.reason
            amountMicros = credit.amount.value
        }
    }

    let object = "invoice"
    let id: String
    let kind: String
    let state: String
    @Present var number: String?
    @Present var corrects: String?
    let tenantID: String
    let customer: String
    let issuer: String
    let period: String
    let periodStart: String
    let periodEnd: String
    let timeZone: String
    let currency: String
    let subtotalMicros: Int64
    let creditsMicros: Int64
    let totalMicros: Int64
    let creditedMicros: Int64
    let owedMicros: Int64
    @Present var form: String?
    let grantedMicros: Int64
    @Present var voidReason: String?
    @Present var reissue: Bool?
    let note: String
    let draftedAt: String
    @Present var finalisedAt: String?
    @Present var dueAt: String?
    @Present var paidAt: String?
    @Present var voidedAt: String?
    let lines: [Line]?
    let credits: [Credit]?

    enum CodingKeys: String, CodingKey {
        case object, id, kind, state, number, corrects, customer, issuer, period, currency, note, lines, credits, form,
            reissue
        case owedMicros = "owed_micros"
        case grantedMicros = "granted_micros"
        case voidReason = "void_reason"
        case tenantID = "tenant_id"
        case periodStart = "period_start"
        case periodEnd = "period_end"
        case timeZone = "time_zone"
        case subtotalMicros = "subtotal_micros"
        case creditsMicros = "credits_micros"
        case totalMicros = "total_micros"
        case creditedMicros = "credited_micros"
        case draftedAt = "drafted_at"
        case finalisedAt = "finalised_at"
        case dueAt = "due_at"
        case paidAt = "paid_at"
        case voidedAt = "voided_at"
    }

    public init(_ invoice: Invoice) { self.init(invoice.row, invoice) }

    public init(_ row: InvoiceRow) { self.init(row, nil) }

    private init(_ row: InvoiceRow, _ invoice: Invoice?) {
        id = row.id.publicText
        kind = row.kind.rawValue
        state = row.state.rawValue
        tenantID = row.tenantID.description
        customer = row.customerName
        issuer = row.issuerName
        period = String(row.periodID.prefix { $0 != "@" })
        periodStart = row.periodStart.description
        periodEnd = row.periodEnd.description
        timeZone = row.timeZone
        currency = row.currency
        subtotalMicros = row.subtotal.value
        creditsMicros = row.credits.value
        totalMicros = row.total.value
        creditedMicros = row.credited.value
        owedMicros = row.owed.value
        grantedMicros = row.granted.value
        note = row.note
        draftedAt = row.draftedAt.description
        lines = invoice.map { $0.lines.enumerated().map { Line($0.offset + 1, $0.element) } }
        credits = invoice.map { $0.credits.map { Credit($0) } }
        form = row.form?.rawValue
        voidReason = row.voidReason
        reissue = row.isReissued
        number = row.numberText
        corrects = row.correctsInvoiceID?.publicText
        finalisedAt = row.finalisedAt?.description
        dueAt = row.dueAt?.description
        paidAt = row.paidAt?.description
        voidedAt = row.voidedAt?.description
    }
}

/// A credit grant as both listeners answer it.
public struct CreditGrantAnswer: Encodable {
    let object = "credit"
    let id: String
    let tenantID: String
    let kind: String
    let currency: String
    let amountMicros: Int64
    let remainingMicros: Int64
    let priority: Int16
    let effectiveAt: String
    @Present var expiresAt: String?
    @Present var revokedAt: String?
    let reason: String
    let createdAt: String

    enum CodingKeys: String, CodingKey {
        case object, id, kind, currency, priority, reason
        case tenantID = "tenant_id"
        case amountMicros = "amount_micros"
        case remainingMicros = "remaining_micros"
        case effectiveAt = "effective_at"
        case expiresAt = "expires_at"
        case revokedAt = "revoked_at"
        case createdAt = "created_at"
    }

    public init(_ row: CreditGrantRow) {
        id = row.id.publicText
        tenantID = row.grant.tenantID.description
        kind = row.grant.kind.rawValue
        currency = row.grant.currency
        amountMicros = row.grant.amount.value
        remainingMicros = row.remaining.value
        priority = row.grant.priority
        effectiveAt = row.effectiveAt.description
        reason = row.grant.reason
        createdAt = row.createdAt.description
        expiresAt = row.grant.expiresAt?.description
        revokedAt = row.revokedAt?.description
    }
}

/// An invoice as a file. Nothing in a page may run or fetch anything, whatever a name in it says.
public enum InvoiceDocument {
    public static func html(_ page: String) -> Response {
        var response = file(Array(page.utf8), "text/html; charset=utf-8", disposition: nil)
        response.headers[.contentSecurityPolicy] = "default-src 'none'; style-src 'unsafe-inline'"
        return response
    }

    public static func pdf(_ bytes: [UInt8], name: String) -> Response {
        file(bytes, "application/pdf", disposition: "attachment; filename=\"\(name).pdf\"")
    }

    public static func csv(_ text: String, name: String) -> Response {
        file(Array(text.utf8), "text/csv; charset=utf-8", disposition: "attachment; filename=\"\(name).csv\"")
    }

    private static func file(_ bytes: [UInt8], _ mediaType: String, disposition: String?) -> Response {
        var headers: HTTPFields = [.contentType: mediaType]
        headers[.contentDisposition] = disposition
        return Response(status: .ok, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
