/// Text in a cell of a sheet: what a program would take for a formula there begins with an apostrophe, by which it is a text (OWASP, CSV injection).
///
/// Some skip blanks before they look, and some take signs in full width for signs. The same rule as the function `export_cell` of the database.
public enum SheetText {
    private static let blanks = " \u{A0}\u{3000}".unicodeScalars
    private static let signs = "=+-@\t\r\n\u{FF1D}\u{FF0B}\u{FF0D}\u{FF20}".unicodeScalars

    public static func guarded(_ text: String) -> String {
        // By scalars: a line end of two is one character.
        let first = text.unicodeScalars.first { !blanks.contains($0) }
        return first.map { signs.contains($0) } ?? false ? "'" + text : text
    }
}
