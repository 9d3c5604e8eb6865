import Domain
import Testing

@Suite("cells of sheets")
struct SheetCellTests {
    @Test("the database and the domain know the same formulas")
    func sameRule() async throws {
        let starts = ["=", "+", "-", "@", "\t", "\r", "\n", "\u{FF1D}", "\u{FF0B}", "\u{FF0D}", "\u{FF20}"]
        let formulas = starts.flatMap { ["\($0)A1", " \($0)A1", "  \u{A0}\u{3000}\($0)1"] } + ["\r\n=1"]
        let texts = ["", "A1", "a=1", " a", "(1)", "\u{A0}x", "5-3", "'=1"]
        try await StorageHarness.with { harness in
            for text in formulas + texts {
                let guarded = SheetText.guarded(text)
                #expect(guarded == (formulas.contains(text) ? "'" + text : text))
                let codes = text.unicodeScalars.map { "chr(\($0.value))" }.joined(separator: " || ")
                let cell = try await harness.ask(
                    "SELECT encode(convert_to(export_cell(\(codes.isEmpty ? "''" : codes)), 'UTF8'), 'hex')")
                #expect(cell == [Array(guarded.utf8).hexadecimal], "\(text.debugDescription)")
            }
        }
    }
}
