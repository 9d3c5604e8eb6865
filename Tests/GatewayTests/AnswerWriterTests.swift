import Domain
import HTTPListener
import NIOCore
import Testing

@testable import Gateway

@Suite("Writing answers") struct AnswerWriterTests {
    private func written(expecting: Int = 512, _ compose: (inout AnswerWriter) -> Void) -> String {
        var buffer = ByteBuffer()
        AnswerWriter.append(to: &buffer, expecting: expecting, compose)
        return String(buffer: buffer)
    }

    @Test("what does not fit is written whole once there is room", arguments: [1, 16, 17, 1_000, 1_000_000])
    func room(count: Int) {
        let text = String(repeating: "x", count: count)
        var buffer = ByteBuffer(string: "before ")
        var calls = 0
        AnswerWriter.append(to: &buffer, expecting: 1) { writer in
            calls += 1
            writer.write("<")
            writer.write(text)
            writer.writeDecimal(12_345)
            writer.write(ByteBuffer(string: ">"))
        }
        #expect(String(buffer: buffer) == "before <\(text)12345>")
        #expect(calls <= 2)
    }

    @Test(
        "numbers are those of the language",
        arguments: [
            0, 1, 9, 10, 11, 99, 100, 12_345_678_901, 999_999_999_999_999_999, 1_000_000_000_000_000_000, Int64.max,
            -1, -10, Int64.min,
        ])
    func numbers(number: Int64) {
        #expect(written { $0.writeDecimal(number) } == String(number))
        #expect(written(expecting: 1) { $0.writeDecimal(number) } == String(number))
    }

    @Test("a request's id is written as it is shown elsewhere")
    func identifiers() {
        for id in [
            RequestID(high: 0, low: 0), RequestID(high: .max, low: .max),
            RequestID(high: 0x0195_a3c0_11aa_7bcd, low: 0x8e00_5f6a_7b8c_9d0e),
            RequestID(high: 0x0123_4567_89AB_CDEF, low: 0xFEDC_BA98_7654_3210),
        ] {
            #expect(written { $0.writePublicID(id) } == "req_\(id)")
        }
    }

    @Test("texts are quoted as the other writer quotes them")
    func quoted() {
        for text in ["", "1", "\"", "\\", "a\"b\\c\n\r\t\u{0}\u{1F}\u{7F}", "é😀\u{2028}"] {
            var expected = ByteBuffer()
            expected.writeJSONString(text)
            #expect(written { $0.writeJSONString(text) } == String(buffer: expected))
        }
    }

    @Test("durations have three places of a millisecond, or hours, minutes and seconds")
    func durations() {
        let milliseconds: [(UInt64, String)] = [
            (0, "0.000"), (999, "0.000"), (1_000, "0.001"), (60_999, "0.060"), (118_400_000, "118.400"),
        ]
        for (nanoseconds, text) in milliseconds { #expect(written { $0.writeMilliseconds(nanoseconds) } == text) }
        for (seconds, text) in [(Int64(0), "0s"), (59, "59s"), (360, "6m0s"), (93_605, "26h0m5s")] {
            #expect(written { $0.writeDuration(seconds: seconds) } == text)
        }
    }
}
