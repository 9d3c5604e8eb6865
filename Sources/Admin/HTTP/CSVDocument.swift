internal import Domain

/// Rows of cells with commas between them, in the form of RFC 4180.
///
/// Who opens such a file in a spreadsheet must not run what a customer wrote: a text that would be taken for a formula there is given an
/// apostrophe in front, by which it is a text. Numbers are ours and stay as they are.
struct CSVDocument {
    private(set) var text: String

    init(columns: [String]) { text = columns.joined(separator: ",") + "\r\n" }

    mutating func add(_ cells: [ReportCell]) {
        text += cells.map(Self.field).joined(separator: ",") + "\r\n"
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
