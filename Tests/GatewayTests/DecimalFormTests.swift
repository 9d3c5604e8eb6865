import NIOCore
import Testing

@testable import Gateway

@Suite("Forms of numbers") struct DecimalFormTests {
    @Test(
        "equal numbers have one form",
        arguments: [
            (["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000"], "1"), (["100", "1e2", "1.0E2", "0.01e4"], "1e2"),
            (["0.5", "5e-1", "0.50", "50e-2"], "5e-1"), (["-12.30", "-1.23e1"], "-123e-1"), (["0", "0.0", "0e9"], "0"),
            (["-0", "-0.0"], "-0"), (["9007199254740993"], "9007199254740993"), (["105", "1.05e2"], "105"),
        ])
    func forms(texts: [String], expected: String) {
        for text in texts {
            var buffer = ByteBuffer()
            ByteBuffer(string: text).withUnsafeReadableBytes { buffer.writeDecimalForm($0[...]) }
            #expect(String(buffer: buffer) == expected, "\(text)")
        }
    }
}
