import HTTPListener
import HTTPTypes
import Hummingbird
import Testing

@Suite("rows as a file")
struct CSVDocumentTests {
    @Test(
        "a text that a spreadsheet would run is a text",
        arguments: [
            ("=cmd()", "'=cmd()"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("  =x", "'  =x"), ("\t=x", "'\t=x"),
            ("a,b", "\"a,b\""), ("say \"x\"", "\"say \"\"x\"\"\""), ("two\nlines", "\"two\nlines\""),
            ("=a,\"b\"", "\"'=a,\"\"b\"\"\""), ("\r\n=x", "\"'\r\n=x\""), ("＝x", "'＝x"), ("plain", "plain"), ("", ""),
        ])
    func csv(text: String, field: String) {
        var document = CSVDocument(columns: ["a", "b"])
        document.add([.text(text), .number(-5)])
        #expect(document.text == "a,b\r\n\(field),-5\r\n")
    }

    @Test("what is not known is an empty field, and a file says what it is called and where it goes on")
    func file() {
        var document = CSVDocument(columns: ["a", "b", "c"])
        document.add([.text(nil), .number(nil), .number(.min)])
        let answer = document.answer(name: "usage", nextPage: "page_2")
        #expect(document.text == "a,b,c\r\n,,-9223372036854775808\r\n")
        #expect(answer.headers[.contentType] == "text/csv; charset=utf-8; header=present")
        #expect(answer.headers[.contentDisposition] == "attachment; filename=\"usage.csv\"")
        #expect(answer.headers[HTTPField.Name("x-weir-next-page") ?? .accept] == "page_2")
        #expect(document.answer(name: "usage").headers[HTTPField.Name("x-weir-next-page") ?? .accept] == nil)
    }
}
