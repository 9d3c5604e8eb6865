/// Makes a PDF of a page.
public protocol InvoicePrinter: Sendable {
    /// - Parameter page: HTML in UTF-8 that refers to nothing else.
    /// - Throws: `pdf_unavailable` where it cannot be made, or not now.
    func pdf(_ page: [UInt8]) async throws(Refusal) -> [UInt8]
}
