public import Domain

/// An invoice as one page of HTML that refers to nothing else: it can be shown, kept, printed and made into a PDF as it is.
public struct InvoicePage: Sendable {
    private let invoice: Invoice
    private let calendar: PeriodCalendar

    public init(_ invoice: Invoice) {
        self.invoice = invoice
        calendar = PeriodCalendar(timeZone: invoice.row.timeZone) ?? .utc
    }

    public var html: String {
        let row = invoice.row
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>\(Self.escape(title))</title>
            <style>\(Self.style)</style>
            </head>
            <body>
            <header>
            <div class="issuer"><strong>\(Self.escape(row.issuerName))</strong>\(Self.lines(row.issuerAddress))\(taxID)</div>
            <h1>\(row.kind == .invoice ? "Invoice" : "Credit note")\(mark)</h1>
            </header>
            <section class="parties">
            <table class="facts">\(facts)</table>
            <h2>\(row.kind == .invoice ? "Bill to" : "Credit to")</h2><p>\(Self.escape(row.customerName))</p>
            </section>
            <table class="lines">
            <thead><tr><th>Description</th><th>Period</th><th class="n">Quantity</th><th class="n">Unit price</th><th class="n">Amount</th></tr></thead>
            <tbody>
            \(invoice.lines.map(line).joined(separator: "\n"))
            </tbody>
            </table>
            <table class="sums">\(sums)</table>
            \(notes)
            </body>
            </html>

            """
    }

    private var title: String {
        let kind = invoice.row.kind == .invoice ? "Invoice" : "Credit note"
        return "\(kind) \(invoice.row.numberText ?? "draft"), \(invoice.row.issuerName)"
    }

    private var mark: String {
        switch invoice.row.state {
        case .draft: " <span class=\"mark\">draft</span>"
        case .void: " <span class=\"mark\">void</span>"
        case .paid: " <span class=\"mark\">paid</span>"
        case .finalised: ""
        }
    }

    private var taxID: String {
        invoice.row.issuerTaxID.isEmpty ? "" : "<br>Tax ID \(Self.escape(invoice.row.issuerTaxID))"
    }

    private var facts: String {
        let row = invoice.row
        var facts: [(String, String)] = [("Number", row.numberText ?? "none yet")]
        facts.append(("Date", day(row.finalisedAt ?? row.draftedAt)))
        facts.append(("Period", span(row.periodStart, row.periodEnd)))
        facts.append(("Time zone", row.timeZone))
        if row.kind == .invoice, let due = row.dueAt { facts.append(("Due", day(due))) }
        if let paid = row.paidAt { facts.append(("Paid", day(paid))) }
        facts.append(("Currency", row.currency))
        return facts.map { "<tr><th>\($0)</th><td>\(Self.escape($1))</td></tr>" }.joined()
    }

    private func line(_ line: InvoiceLine) -> String {
        let quantity = line.quantityMillionths.map(AmountText.quantity) ?? ""
        let price = line.unitPrice.map(AmountText.price) ?? ""
        return "<tr class=\"\(line.kind.rawValue)\"><td>\(Self.escape(line.description))</td>"
            + "<td class=\"d\">\(span(line.start, line.end))</td><td class=\"n\">\(quantity)</td>"
            + "<td class=\"n\">\(price)</td><td class=\"n\">\(AmountText.amount(line.amount))</td></tr>"
    }

    private var sums: String {
        let row = invoice.row
        var rows = ""
        if row.kind == .invoice {
            rows += Self.sum("Subtotal", row.subtotal)
            for credit in invoice.credits {
                rows += Self.sum("Credit: \(credit.reason)", Micros(-credit.amount.value))
            }
        }
        let total = "\(row.currency) \(AmountText.amount(row.total))"
        rows += "<tr class=\"total\"><th>Total</th><td class=\"n\">\(total)</td></tr>"
        if row.reduced > .zero { rows += Self.sum("Taken off by credit notes", Micros(-row.reduced.value)) }
        if row.reduced > .zero, row.state == .finalised { rows += Self.sum("Left to pay", row.owed) }
        rows += rounding(row)
        let back = Micros(row.credited.value - row.reduced.value)
        if back > .zero { rows += Self.sum("Given back by credit notes", back) }
        if row.kind == .creditNote { rows += note(row) }
        return rows
    }

    /// The sums are exact; what is paid is whole minor units of the currency.
    private func rounding(_ row: InvoiceRow) -> String {
        let open = row.kind == .invoice ? Micros(row.total.value - row.reduced.value) : row.total
        let payable = PayableAmount(open, currency: row.currency)
        guard payable.rounding != .zero else { return "" }
        let amount = "\(row.currency) \(AmountText.amount(payable.amount))"
        return Self.sum("Rounding", payable.rounding)
            + "<tr class=\"total\"><th>Payable</th><td class=\"n\">\(amount)</td></tr>"
    }

    /// What becomes of a credit note's amount.
    private func note(_ row: InvoiceRow) -> String {
        let rest = Micros(row.total.value - row.granted.value)
        var rows = ""
        if rest > .zero {
            rows += Self.sum(row.form == .reduction ? "Taken off the invoice" : "Given back as money", rest)
        }
        if row.granted > .zero { rows += Self.sum("Given as a credit", row.granted) }
        return rows
    }

    private static func sum(_ name: String, _ amount: Micros) -> String {
        "<tr><th>\(escape(name))</th><td class=\"n\">\(AmountText.amount(amount))</td></tr>"
    }

    private var notes: String {
        let row = invoice.row
        var notes: [String] = []
        if !row.note.isEmpty { notes.append(row.note) }
        if row.state == .draft { notes.append("This is a draft. Nothing is asked for yet.") }
        if row.state == .void { notes.append("This invoice is void. Nothing is asked for. \(row.voidReason ?? "")") }
        return notes.map { "<p class=\"note\">\(Self.escape($0))</p>" }.joined()
    }

    // MARK: Text

    private func day(_ instant: Timestamp) -> String { Self.text(calendar.day(containing: instant)) }

    /// Both days are in it: a period's end is the first instant that is not.
    private func span(_ start: Timestamp, _ end: Timestamp) -> String {
        let last = Timestamp(microsecondsSince1970: end.microsecondsSince1970 - 1)
        return "\(day(start)) – \(day(last))"
    }

    private static func text(_ date: CivilDate) -> String {
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(date.year)-\(two(date.month))-\(two(date.day))"
    }

    private static func lines(_ text: String) -> String {
        text.split(separator: "\n").map { "<br>\(escape(String($0)))" }.joined()
    }

    static func escape(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "'": escaped += "&#39;"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }

    private static let style = """
        @page{size:A4;margin:18mm 16mm;@bottom-right{content:counter(page) " / " counter(pages);font:8pt sans-serif;color:#777}}
        body{font:10pt/1.45 "Helvetica Neue",Arial,"DejaVu Sans",sans-serif;color:#1c2430;max-width:178mm;margin:0 auto;padding:8mm 0}
        header{display:flex;justify-content:space-between;align-items:flex-start;border-bottom:2px solid #1c2430;padding-bottom:5mm}
        h1{font-size:20pt;font-weight:600;margin:0}
        h2{font-size:8pt;text-transform:uppercase;letter-spacing:.06em;color:#667;margin:0 0 1mm}
        .mark{font-size:9pt;text-transform:uppercase;border:1px solid #a33;color:#a33;padding:.5mm 1.5mm;vertical-align:middle}
        .parties{margin:7mm 0}.parties::after{content:"";display:block;clear:both}
        .facts{float:right;margin-left:8mm}
        .parties p{margin:0;font-size:12pt}
        table{border-collapse:collapse}
        .facts th{text-align:left;font-weight:400;color:#667;padding:0 5mm 0 0}.facts td{text-align:right}
        .lines{width:100%}
        .lines th{text-align:left;font-size:8pt;text-transform:uppercase;letter-spacing:.04em;color:#667;border-bottom:1px solid #99a;padding:1.5mm 2mm 1.5mm 0}
        .lines td{border-bottom:1px solid #e2e5ea;padding:1.6mm 2mm 1.6mm 0;vertical-align:top}
        .lines tr{page-break-inside:avoid}
        .lines .n,.sums .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;padding-right:0;padding-left:3mm}
        .d{white-space:nowrap;color:#556;font-size:8.5pt}
        .included td,.trial td{color:#667}
        .sums{margin:5mm 0 0 auto;min-width:75mm}
        .sums th{text-align:left;font-weight:400;padding:1mm 0}
        .total th,.total td{border-top:2px solid #1c2430;font-weight:600;font-size:12pt;padding-top:2mm}
        .note{margin-top:8mm;color:#445}
        """
}

/// An invoice as a table for a program: comma-separated, RFC 4180, UTF-8.
public enum InvoiceTable {
    public static func csv(_ invoice: Invoice) -> String {
        var rows = [
            [
                "invoice", "number", "line", "kind", "description", "price_version", "model", "meter", "band", "start",
                "end", "quantity", "unit_price", "amount_micros", "currency",
            ]
        ]
        let row = invoice.row
        for (index, line) in invoice.lines.enumerated() {
            rows.append([
                row.id.publicText, row.numberText ?? "", "\(index + 1)", line.kind.rawValue, line.description,
                line.tierVersionID?.priceVersionText ?? "", line.model ?? "", line.meter?.rawValue ?? "",
                line.band.map { "\($0)" } ?? "", line.start.description, line.end.description,
                line.quantityMillionths.map(AmountText.plainQuantity) ?? "", line.unitPrice?.description ?? "",
                "\(line.amount.value)", row.currency,
            ])
        }
        for credit in invoice.credits {
            rows.append([
                row.id.publicText, row.numberText ?? "", "", "credit", credit.reason, "", "", "", "",
                row.periodStart.description, row.periodEnd.description, "", "", "\(-credit.amount.value)", row.currency,
            ])
        }
        return rows.map { $0.map(field).joined(separator: ",") + "\r\n" }.joined()
    }

    private static func field(_ text: String) -> String {
        // A number below zero is meant.
        let isNumber = text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2D || $0 == 0x2E }
        let safe = isNumber ? text : SheetText.guarded(text)
        guard safe.utf8.contains(where: { [0x22, 0x2C, 0x0A, 0x0D].contains($0) }) else { return safe }
        return "\"" + safe.replacing("\"", with: "\"\"") + "\""
    }
}
