import NIOCore
import Testing

@testable import Gateway

@Suite("Base64") struct Base64Tests {
    @Test(
        "the test vectors of RFC 4648, section 10",
        arguments: [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"), ("\u{3FF}~?", "z79+Pw=="),
        ])
    func vectors(text: String, expected: String) {
        var buffer = ByteBuffer()
        buffer.writeBase64(Array(text.utf8))
        #expect(String(buffer: buffer) == expected)
    }
}
