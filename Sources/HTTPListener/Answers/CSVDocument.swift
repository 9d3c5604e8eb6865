internal import Domain
internal import HTTPTypes
public import Hummingbird
internal import NIOCore

/// One value of a report; the same in JSON and in CSV.
public enum ReportCell: Hashable, Sendable, Encodable {
    case text(String?)
    case number(Int64?)

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let text?): try container.encode(text)
        case .number(let number?): try container.encode(number)
        case .text(nil), .number(nil): try container.encodeNil()
        }
    }
}

/// Rows of cells with commas between them, in the form of RFC 4180.
///
/// Who opens such a file in a spreadsheet must not run what a customer wrote: a text that would be taken for a formula there is given an
/// apostrophe in front, by which it is a text. Numbers are ours and stay as they are.
public struct CSVDocument: Sendable {
    public private(set) var text: String

    public init(columns: [String]) { text = columns.joined(separator: ",") + "\r\n" }

    public mutating func add(_ cells: [ReportCell]) {
        text += cells.map(Self.field).joined(separator: ",") + "\r\n"
    }

    /// The document as a file.
    /// - Parameters:
    ///   - name: what the file is called, without its ending.
    ///   - nextPage: where the rows go on, if there are more.
    public func answer(name: String, nextPage: String? = nil) -> Response {
        var headers: HTTPFields = [.contentType: "text/csv; charset=utf-8; header=present"]
        headers[.contentDisposition] = "attachment; filename=\"\(name).csv\""
        if let nextPage, let field = HTTPField.Name("x-weir-next-page") { headers[field] = nextPage }
        return Response(status: .ok, headers: headers, body: .init(byteBuffer: ByteBuffer(string: text)))
    }

    private static func field(_ cell: ReportCell) -> String {
        switch cell {
        case .number(let number): number.map { String($0) } ?? ""
        case .text(let text): text.map(field) ?? ""
        }
    }

    private static func field(_ text: String) -> String {
        let safe = SheetText.guarded(text)
        guard safe.unicodeScalars.contains(where: { ",\"\r\n".unicodeScalars.contains($0) }) else { return safe }
        return "\"" + safe.replacing("\"", with: "\"\"") + "\""
    }
}
