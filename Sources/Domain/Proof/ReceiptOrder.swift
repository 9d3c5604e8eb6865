/// Which proof of its charge an answer carries.
public enum ReceiptForm: String, Sendable, CaseIterable {
    case none
    /// Place, path and signature; the fields are those of the ledger's entry.
    case short
    /// The fields as well: complete without the ledger.
    case full
}

/// What is to come of a settlement besides its commit: a receipt. There is none where nobody wants one.
public protocol ReceiptOrder: AnyObject, Sendable {
    var form: ReceiptForm { get }
    /// Called at most once, after the commit is known and before the caller is told of it.
    /// - Parameter text: the receipt in ASCII.
    func fill(_ text: [UInt8])
}
