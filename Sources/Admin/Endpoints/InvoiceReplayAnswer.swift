internal import Billing
internal import Domain
internal import HTTPListener

/// Whether rating says of issued invoices what they say.
struct InvoiceReplayAnswer: Encodable {
    struct Part: Encodable {
        let period: String
        let issuedMicros: Int64
        let replayedMicros: Int64
        let isEqual: Bool

        enum CodingKeys: String, CodingKey {
            case period
            case issuedMicros = "issued_micros"
            case replayedMicros = "replayed_micros"
            case isEqual = "equal"
        }
    }

    struct Invoice: Encodable {
        let id: String
        let number: String
        let tenantID: String
        let period: String
        let currency: String
        let issuedMicros: Int64
        @Present var replayedMicros: Int64?
        let parts: [Part]

        enum CodingKeys: String, CodingKey {
            case id, number, period, currency, parts
            case tenantID = "tenant_id"
            case issuedMicros = "issued_micros"
            case replayedMicros = "replayed_micros"
        }

        init(_ replayed: ReplayedInvoice) {
            let invoice = replayed.invoice
            id = invoice.id.publicText
            number = invoice.number
            tenantID = invoice.tenantID.description
            period = invoice.period.id
            currency = invoice.currency
            issuedMicros = invoice.subtotal.value
            replayedMicros = replayed.replayed.map { Int64(clamping: $0) }
            parts = replayed.parts.map {
                Part(
                    period: $0.periodID, issuedMicros: Int64(clamping: $0.issued),
                    replayedMicros: Int64(clamping: $0.replayed), isEqual: $0.isEqual)
            }
        }
    }

    let object = "invoice_replay"
    let invoices: Int
    let equal: Int
    let differing: Int
    let differences: [Invoice]

    init(_ summary: InvoiceReplayer.Summary) {
        invoices = summary.count
        equal = summary.equalCount
        differing = summary.differingCount
        differences = summary.differing.map(Invoice.init)
    }
}
