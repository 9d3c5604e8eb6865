import Domain
import Foundation
import HTTPListener
import NIOCore
import NIOPosix
import Testing

@testable import Gateway

@Suite("Answers") struct AnswerTests {
    private static let requestID = RequestID(high: 0x0195_a3c0_11aa_7bcd, low: 0x8e00_5f6a_7b8c_9d0e)
    private static let now = Timestamp(microsecondsSince1970: 784_111_777_000_000)

    private func prediction(
        version: String = "1", cost: Micros? = Micros(2_140), limits: [LimitReading] = [], degradations: [String] = [],
        usage: Usage = Usage(inputTokens: 123, outputTokens: 45, source: .worker),
        probabilities: String? = "[0.9,0.1]"
    ) -> Prediction {
        Prediction(
            requestID: Self.requestID, surface: .predict, model: "iris", version: version,
            prediction: ByteBuffer(string: #""set\u006fsa""#),
            probabilities: probabilities.map { ByteBuffer(string: $0) }, usage: usage, cost: cost, currency: "USD",
            priceVersion: "pv_1", limits: limits, degradations: degradations,
            timings: StageTimings(authenticate: 200_000, quota: 60_999, upstream: 118_400_000, settle: 1_000_999))
    }

    private static func reading(
        _ unit: QuotaUnit, _ frequency: Frequency, amount: Int64, remaining: Int64, reset: Int64, window: Int64
    ) -> LimitReading {
        LimitReading(
            quota: Quota(
                id: QuotaID(high: 0, low: UInt64(amount)), unit: unit, frequency: frequency, amount: amount, mode: .hard
            ), remaining: remaining, resetSeconds: reset, windowSeconds: window)
    }

    /// Head and body of what `make` writes, made on an event loop, where the writers must be.
    private func written(_ make: @escaping @Sendable (LoopContext) -> ByteBuffer) async throws -> (
        lines: [String], body: String
    ) {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let text = try await eventLoop.submit { String(buffer: make(LoopContext(eventLoop: eventLoop))) }.get()
        let end = try #require(text.range(of: "\r\n\r\n"))
        return (text[..<end.lowerBound].components(separatedBy: "\r\n"), String(text[end.upperBound...]))
    }

    private func object(_ body: String) throws -> [String: Any] {
        _ = try JSONTape(ByteBuffer(string: body))
        return try #require(try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any])
    }

    private func body(_ answer: Prediction) -> ByteBuffer {
        var body = ByteBuffer()
        AnswerBody.write(answer, to: &body)
        return body
    }

    @Test("a prediction's body is exact")
    func body() throws {
        let text = String(buffer: body(prediction()))
        #expect(
            text
                == #"{"request_id":"req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e","model":"iris","version":"1","prediction":"set\u006fsa","probabilities":[0.9,0.1],"cached":false,"#
                + #""usage":{"input_tokens":123,"cached_input_tokens":0,"output_tokens":45,"source":"worker"}}"#)
    }

    @Test(
        "a prediction's body is JSON whatever the worker calls its version",
        arguments: ["", "\"", "\\", "a\"b\\c\n\r\t\u{0}\u{1F}\u{7F}", "é😀\u{2028}", "\r\n", "</script>", "e\u{301}\""])
    func escaping(version: String) throws {
        let object = try self.object(
            String(buffer: body(prediction(version: version, probabilities: nil)))
                .replacingOccurrences(of: "\\u0000", with: "\\u0001"))
        #expect(object["version"] as? String == version.replacingOccurrences(of: "\u{0}", with: "\u{1}"))
        #expect(object["probabilities"] == nil)
    }

    @Test("a prediction's head has every field in its form")
    func predictionHead() async throws {
        let limits = [
            Self.reading(.requests, .minute, amount: 600, remaining: 598, reset: 21, window: 60),
            Self.reading(.tokens, .minute, amount: 200_000, remaining: 187_200, reset: 21, window: 60),
            Self.reading(.tokens, .month, amount: 1_000_000, remaining: 410_233, reset: 93_605, window: 2_592_000),
        ]
        let answer = prediction(limits: limits, degradations: ["redis"])
        let (lines, body) = try await written {
            AnswerHead.prediction(answer, clientID: ClientRequestID("mine-1"), keepsAlive: true, at: Self.now, on: $0)
        }
        #expect(
            lines == [
                "HTTP/1.1 200 OK", "content-type: application/json", "content-length: \(body.utf8.count)",
                "date: Sun, 06 Nov 1994 08:49:37 GMT", "cache-control: no-store", "x-content-type-options: nosniff",
                "x-request-id: req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e", "x-client-request-id: mine-1",
                "x-weir-model: iris", "x-weir-model-version: 1", "x-weir-usage: in=123, cached=0, out=45",
                "x-weir-price-version: pv_1",
                "x-weir-cost-micros: 2140; currency=USD", "x-weir-degraded: redis", "x-ratelimit-limit-requests: 600",
                "x-ratelimit-remaining-requests: 598", "x-ratelimit-reset-requests: 21s",
                "x-ratelimit-limit-tokens: 200000",
                "x-ratelimit-remaining-tokens: 187200", "x-ratelimit-reset-tokens: 21s",
                #"RateLimit-Policy: "requests-minute";q=600;w=60, "tokens-minute";q=200000;w=60;qu="tokens", "tokens-month";q=1000000;w=2592000;qu="tokens""#,
                #"RateLimit: "requests-minute";r=598;t=21, "tokens-minute";r=187200;t=21, "tokens-month";r=410233;t=93605"#,
                "server-timing: auth;dur=0.200, route;dur=0.000, quota;dur=0.060, upstream;dur=118.400, settle;dur=1.000",
            ])
        _ = try object(body)
    }

    @Test("what is unknown or unsafe is left out of the head, and the end of the connection is said")
    func sparseHead() async throws {
        let answer = prediction(version: "1\r\nx-evil: 1", cost: nil)
        let (lines, _) = try await written {
            AnswerHead.prediction(answer, clientID: nil, keepsAlive: false, at: Self.now, on: $0)
        }
        let names = lines.dropFirst().map { $0.prefix { $0 != ":" } }
        #expect(
            names == [
                "content-type", "content-length", "date", "cache-control", "x-content-type-options", "x-request-id",
                "connection", "x-weir-model", "x-weir-usage", "server-timing",
            ])
        #expect(lines.contains("connection: close"))
    }

    @Test("a problem has the form of RFC 9457, for every code", arguments: FailureCode.allCases)
    func problem(code: FailureCode) async throws {
        let refusal = Refusal(code, "Do \"this\".\n", errors: [.init(location: "/a\"", message: "m\\", fix: "f")])
        let (lines, body) = try await written {
            AnswerHead.problem(refusal, in: .problem, requestID: Self.requestID, keepsAlive: true, at: Self.now, on: $0)
        }
        #expect(lines.first?.hasPrefix("HTTP/1.1 \(code.httpStatus) ") == true)
        #expect(lines.contains("content-length: \(body.utf8.count)"))
        #expect(lines.contains("content-type: application/problem+json"))
        #expect(lines.contains("x-weir-error: \(code.rawValue)"))
        #expect(lines.contains("www-authenticate: Bearer") == (code.httpStatus == 401))
        #expect(lines.contains("x-should-retry: false") == [401, 402, 403, 422, 429].contains(code.httpStatus))
        let object = try self.object(body)
        #expect(object["status"] as? Int == code.httpStatus)
        #expect(object["code"] as? String == code.rawValue)
        #expect(object["title"] as? String == code.title)
        #expect(object["detail"] as? String == "Do \"this\".\n")
        #expect(object["request_id"] as? String == Self.requestID.publicText)
        #expect(object["instance"] as? String == "/api/v1/requests/" + Self.requestID.publicText)
        #expect((object["errors"] as? [[String: String]]) == [["location": "/a\"", "message": "m\\", "fix": "f"]])
    }

    @Test("a used-up quota says so in both families of fields, and tells clients not to retry")
    func quotaProblem() async throws {
        let quota = Quota(id: QuotaID(high: 0, low: 1), unit: .tokens, frequency: .month, amount: 1_000, mode: .hard)
        let now = try #require(Timestamp(rfc3339: "2026-03-31T23:00:00.000001Z"))
        let period = PeriodCalendar.utc.period(containing: now, frequency: .month)
        // More is settled than the limit, as after a limit that was lowered: nothing negative is shown.
        let refusal = Refusal.quotaExceeded(
            QuotaRefusal(quota: quota, period: period, settled: 1_200, held: 5, requested: 60), at: now)
        let (lines, body) = try await written {
            AnswerHead.problem(refusal, in: .problem, requestID: Self.requestID, keepsAlive: true, at: now, on: $0)
        }
        for line in [
            "x-should-retry: false", "retry-after: 3600", "x-ratelimit-limit-tokens: 1000",
            "x-ratelimit-remaining-tokens: 0", "x-ratelimit-reset-tokens: 1h0m0s",
            #"RateLimit-Policy: "tokens-month";q=1000;w=2678400;qu="tokens""#,
            #"RateLimit: "tokens-month";r=0;t=3600"#,
        ] { #expect(lines.contains(line), "\(line)") }
        #expect(!lines.contains { $0.hasPrefix("retry-after-ms") })
        let object = try self.object(body)
        #expect(object["violated-policies"] as? [String] == ["tokens-month"])
        let numbers = try #require(object["quota"] as? [String: Any])
        #expect(
            numbers["limit"] as? Int == 1_000 && numbers["settled"] as? Int == 1_200 && numbers["held"] as? Int == 5
                && numbers["requested"] as? Int == 60)
        #expect(
            numbers["resets_at"] as? String == "2026-04-01T00:00:00Z" && numbers["policy"] as? String == "tokens-month"
                && numbers["unit"] as? String == "tokens")
    }

    @Test("a quota for all time names no end of its period, which no date can say")
    func endlessQuotaProblem() async throws {
        let quota = Quota(id: QuotaID(high: 0, low: 1), unit: .requests, frequency: .none, amount: 10, mode: .hard)
        let period = PeriodCalendar.utc.period(containing: Self.now, frequency: .none)
        let refusal = Refusal.quotaExceeded(
            QuotaRefusal(quota: quota, period: period, settled: 10, held: 0, requested: 1), at: Self.now)
        let (lines, body) = try await written {
            AnswerHead.problem(refusal, in: .problem, requestID: Self.requestID, keepsAlive: true, at: Self.now, on: $0)
        }
        #expect(lines.contains(#"RateLimit-Policy: "requests-none";q=10"#))
        #expect(lines.contains(#"RateLimit: "requests-none";r=0"#))
        #expect(!lines.contains { $0.hasPrefix("retry-after") || $0.hasPrefix("x-ratelimit-reset") })
        #expect(!body.contains("resets_at") && !body.contains("10000-"))
    }

    @Test("a passing failure says when to come back")
    func retry() async throws {
        let (lines, _) = try await written {
            AnswerHead.problem(
                .storeAway(cause: "secret"), in: .problem, requestID: Self.requestID, keepsAlive: true, at: Self.now,
                on: $0)
        }
        #expect(lines.contains("retry-after: 2") && lines.contains("retry-after-ms: 2000"))
        #expect(!lines.joined().contains("secret"))
    }

    @Test("the date of an answer follows the clock")
    func dateFollows() async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let texts = try await eventLoop.submit {
            let loop = LoopContext(eventLoop: eventLoop)
            return [Int64(0), 999, 1_000, 0].map { milliseconds in
                var text = ""
                loop.withDate(at: Self.now.advanced(byMilliseconds: milliseconds)) {
                    text = String(decoding: $0, as: UTF8.self)
                }
                return text
            }
        }.get()
        #expect(texts.map { $0.suffix(6) } == ["37 GMT", "37 GMT", "38 GMT", "37 GMT"])
    }

    @Test("what is kept of a result is JSON")
    func result() {
        let reading = WorkerReading(
            prediction: ByteBuffer(string: "[1]"), probabilities: ByteBuffer(string: "[2]"), version: nil,
            inputTokens: nil, cachedInputTokens: nil, outputTokens: nil)
        #expect(
            String(decoding: AnswerBody.result(reading, on: .predict), as: UTF8.self)
                == #"{"prediction":[1],"probabilities":[2]}"#)
    }
}
