/// What a credit note does with the money that it takes back.
public enum CreditNoteForm: String, Sendable, CaseIterable {
    /// The invoice is not paid, and less is asked for.
    case reduction
    /// It becomes a credit of the tenant's.
    case credit
    /// It is given back outside of Weir.
    case money
}

/// How a credit note's amount is divided, so that nobody gets back what was not given: less is asked for what is not paid yet, money is given back for
/// what was paid with money, and a grant for what credits have paid.
public struct CreditNoteDivision: Hashable, Sendable {
    public let form: CreditNoteForm
    /// What becomes a grant; the rest is what ``form`` says.
    public let granted: Micros

    /// - Parameters:
    ///   - amount: at most what earlier notes have left of the subtotal.
    ///   - total: what the invoice asked for, after credits.
    ///   - reduced: by how much earlier notes have lowered that.
    ///   - givenBack: what earlier notes have given back of it as money.
    ///   - asCredit: what is asked for where the invoice is paid.
    public init(amount: Micros, total: Micros, reduced: Micros, givenBack: Micros, isPaid: Bool, asCredit: Bool) {
        form = isPaid ? (asCredit ? .credit : .money) : .reduction
        let open = max(0, total.value - reduced.value - givenBack.value)
        granted = form == .credit ? amount : Micros(max(0, amount.value - open))
    }
}
