internal import Domain

/// What the head of a request says about its receipt.
enum ReceiptWish: Sendable, Equatable {
    case unsaid
    case form(ReceiptForm)
    case unreadable

    init(_ text: String) { self = ReceiptForm(rawValue: text).map { .form($0) } ?? .unreadable }

    /// - Parameter values: of all the fields of that name.
    init(_ values: [String]) {
        switch values.count {
        case 0: self = .unsaid
        case 1: self.init(values[0])
        default: self = .unreadable
        }
    }

    /// - Parameter standard: the tenant's, for a request that says nothing.
    func form(where standard: ReceiptForm) throws(Refusal) -> ReceiptForm {
        switch self {
        case .unsaid: return standard
        case .form(let form): return form
        case .unreadable:
            throw Refusal(
                .badRequest,
                "The header x-weir-receipt must be none, short or full, once. Leave it out for the tenant's own setting."
            )
        }
    }
}
