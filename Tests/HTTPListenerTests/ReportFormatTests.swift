import Domain
import Testing

@testable import HTTPListener

@Suite("the form of a report")
struct ReportFormatTests {
    @Test(
        "CSV is answered where it is named and nothing that JSON fits is wanted more",
        arguments: [
            (["text/csv"], true), (["Text/CSV; header=present"], true), (["text/csv, application/json"], true),
            (["application/json, text/csv"], false), (["application/json", "text/csv"], false),
            (["application/json;q=0.5, text/csv;q=0.501"], true), (["text/csv;q=0.9, application/json"], false),
            (["text/csv;q=0.9, */*"], false), (["text/csv, */*;q=0.1"], true), (["*/*, text/csv"], true),
            (["text/csv;q=0"], false), (["text/csv;q=0.0, text/html"], false), (["text/csv;q=nan"], false),
            (["text/csv;q=-1"], false), (["text/csv;q=0.99999999999999999999"], false), (["text/csv;q=1.000"], true),
            (["text/csvx"], false), (["text/*"], false), (["*/*"], false), ([], false), ([""], false), ([",;,"], false),
        ])
    func accept(fields: [String], isCSV: Bool) {
        #expect(ReportFormat.prefersCSV(fields) == isCSV)
    }
}
