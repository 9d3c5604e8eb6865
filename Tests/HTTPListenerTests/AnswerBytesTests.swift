import Domain
import Foundation
import NIOCore
import Testing

@testable import HTTPListener

@Suite("What answers are written with") struct AnswerBytesTests {
    @Test("every control character is escaped", arguments: UInt8(0)..<0x20)
    func control(byte: UInt8) {
        var buffer = ByteBuffer()
        buffer.writeJSONString("a" + String(Unicode.Scalar(byte)) + "b")
        let digits = String(byte, radix: 16)
        #expect(String(buffer: buffer) == "\"a\\u" + String(repeating: "0", count: 4 - digits.count) + digits + "b\"")
    }

    @Test("a number is written as it is", arguments: [Int64.min, -1, 0, 9, 10, 12_345, .max])
    func decimal(value: Int64) {
        var buffer = ByteBuffer()
        buffer.writeDecimal(value)
        #expect(String(buffer: buffer) == String(value))
    }

    @Test(
        "durations are written as the OpenAI API writes them",
        arguments: [
            (Int64(0), "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (360, "6m0s"), (3_599, "59m59s"), (3_600, "1h0m0s"),
            (93_605, "26h0m5s"),
        ] as [(Int64, String)])
    func duration(seconds: Int64, text: String) {
        #expect(durationText(seconds: seconds) == text)
    }

    @Test(
        "dates are written as RFC 9110 says",
        arguments: [
            (Int64(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"), (1_772_323_199, "Sat, 28 Feb 2026 23:59:59 GMT"),
            (1_772_323_200, "Sun, 01 Mar 2026 00:00:00 GMT"),
        ] as [(Int64, String)])
    func date(seconds: Int64, text: String) {
        #expect(httpDate(secondsSince1970: seconds) == text)
    }

    @Test(
        "a problem names itself as its listener does, and says whether the connection goes on",
        arguments: [
            (ProblemStyle.Instance.request, "/api/v1/requests/req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e"),
            (.uuid, "urn:uuid:0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e"),
        ])
    func problem(instance: ProblemStyle.Instance, text: String) throws {
        let requestID = RequestID(high: 0x0195_a3c0_11aa_7bcd, low: 0x8e00_5f6a_7b8c_9d0e)
        for (code, keepsAlive) in FailureCode.allCases.map({ ($0, $0.httpStatus < 500) }) {
            let answer = String(
                buffer: ProblemAnswer.message(
                    Refusal(code, "Do this."), requestID: requestID, instance: instance, keepsAlive: keepsAlive,
                    date: Array("Thu, 01 Jan 1970 00:00:00 GMT".utf8)))
            let parts = answer.components(separatedBy: "\r\n\r\n")
            try #require(parts.count == 2)
            let lines = parts[0].components(separatedBy: "\r\n")
            #expect(lines[0] == "HTTP/1.1 \(code.httpStatus) \(reasonPhrase(code.httpStatus))")
            #expect(reasonPhrase(code.httpStatus) != "Internal Server Error" || code == .internalError)
            #expect(lines.contains("connection: close") == !keepsAlive)
            #expect(lines.contains("content-length: \(parts[1].utf8.count)"))
            #expect(lines.contains("x-weir-error: \(code.rawValue)"))
            let object = try #require(try JSONSerialization.jsonObject(with: Data(parts[1].utf8)) as? [String: Any])
            #expect(object["instance"] as? String == text)
            #expect(object["code"] as? String == code.rawValue)
        }
    }
}
