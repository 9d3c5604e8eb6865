internal import Domain
internal import NIOCore

/// Writes the head of a data-plane answer and its body into one buffer, so that an answer is one write of the socket.
enum AnswerHead {
    static func prediction(
        _ answer: Prediction, clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp, on loop: LoopContext
    ) -> ByteBuffer {
        loop.composeAnswer { body, buffer in
            AnswerBody.write(answer, to: &body)
            begin(
                &buffer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n", body, answer.requestID, keepsAlive,
                now, loop)
            writeFields(answer, clientID, to: &buffer)
            buffer.writeImmutableBuffer(body)
        }
    }

    private static func writeFields(
        _ answer: Prediction, _ clientID: ClientRequestID?, to buffer: inout ByteBuffer
    ) {
        write(clientID, to: &buffer)
        writeFacts(answer, to: &buffer)
        if let cache = answer.cache { write(cache, to: &buffer) }
        for name in answer.degradations {
            buffer.writeStaticString("\r\nx-weir-degraded: ")
            buffer.writeString(name)
        }
        writeLimits(answer.limits, to: &buffer)
        writeTimings(answer.timings, to: &buffer)
        buffer.writeStaticString("\r\n\r\n")
    }

    /// The fields that belong to the answer and not to the moment, with CRLF between them: what is kept of the head under an idempotency key.
    static func writeFacts(_ answer: Prediction, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("x-weir-model: ")
        buffer.writeString(answer.model)
        if isFieldSafe(answer.version) {
            buffer.writeStaticString("\r\nx-weir-model-version: ")
            buffer.writeString(answer.version)
        }
        buffer.writeStaticString("\r\nx-weir-usage: in=")
        buffer.writeDecimal(answer.usage.inputTokens)
        buffer.writeStaticString(", cached=")
        buffer.writeDecimal(answer.usage.cachedInputTokens)
        buffer.writeStaticString(", out=")
        buffer.writeDecimal(answer.usage.outputTokens)
        if let cost = answer.cost {
            buffer.writeStaticString("\r\nx-weir-price-version: ")
            buffer.writeString(answer.priceVersion)
            buffer.writeStaticString("\r\nx-weir-cost-micros: ")
            buffer.writeDecimal(cost.value)
            buffer.writeStaticString("; currency=")
            buffer.writeString(answer.currency)
        }
    }

    /// `Cache-Status` (RFC 9211) and, for an answer that was kept, `Age` (RFC 9111, section 5.1).
    private static func write(_ cache: CacheStatus, to buffer: inout ByteBuffer) {
        switch cache {
        case .hit(let ttlSeconds, let ageSeconds):
            buffer.writeStaticString("\r\nCache-Status: weir; hit; ttl=")
            buffer.writeDecimal(ttlSeconds)
            buffer.writeStaticString("\r\nAge: ")
            buffer.writeDecimal(ageSeconds)
        case .collapsed(let ttlSeconds):
            buffer.writeStaticString("\r\nCache-Status: weir; fwd=uri-miss; collapsed; ttl=")
            buffer.writeDecimal(ttlSeconds)
        case .forwarded(let reason, let isStored):
            buffer.writeStaticString("\r\nCache-Status: weir; fwd=")
            buffer.writeString(reason.rawValue)
            if isStored { buffer.writeStaticString("; stored") }
        }
    }

    /// An answer that was kept, under the id of the request that was charged for it. The limits are those of now.
    static func replay(
        _ answer: KeptAnswer, limits: [LimitReading], clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp,
        on loop: LoopContext
    ) -> ByteBuffer {
        loop.composeAnswer { body, buffer in
            body.writeBytes(answer.body)
            begin(
                &buffer, "HTTP/1.1 \(answer.status) \(reason(answer.status))\r\ncontent-type: application/json\r\n",
                body,
                answer.requestID, keepsAlive, now, loop)
            write(clientID, to: &buffer)
            buffer.writeString(answer.fields)
            buffer.writeStaticString("\r\nIdempotent-Replayed: true")
            writeLimits(limits, to: &buffer)
            buffer.writeStaticString("\r\n\r\n")
            buffer.writeImmutableBuffer(body)
        }
    }

    static func problem(
        _ refusal: Refusal, requestID: RequestID, clientID: ClientRequestID? = nil, keepsAlive: Bool, at now: Timestamp,
        on loop: LoopContext
    ) -> ByteBuffer {
        let body = AnswerBody.problem(refusal, requestID: requestID)
        var buffer = ByteBuffer()
        buffer.reserveCapacity(500 + body.readableBytes)
        begin(
            &buffer,
            "HTTP/1.1 \(refusal.code.httpStatus) \(reason(refusal.code.httpStatus))\r\ncontent-type: application/problem+json\r\n",
            body, requestID, keepsAlive, now, loop)
        write(clientID, to: &buffer)
        buffer.writeStaticString("x-weir-error: ")
        buffer.writeString(refusal.code.rawValue)
        for (name, value) in refusal.fields { buffer.writeString("\r\n\(name): \(value)") }
        buffer.writeStaticString("\r\n\r\n")
        buffer.writeImmutableBuffer(body)
        return buffer
    }

    private static func begin(
        _ buffer: inout ByteBuffer, _ start: String, _ body: ByteBuffer, _ requestID: RequestID, _ keepsAlive: Bool,
        _ now: Timestamp,
        _ loop: LoopContext
    ) {
        buffer.writeString(start)
        buffer.writeStaticString("content-length: ")
        buffer.writeDecimal(Int64(body.readableBytes))
        buffer.writeStaticString("\r\ndate: ")
        loop.withDate(at: now) { buffer.writeBytes($0) }
        buffer.writeStaticString("\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: ")
        buffer.writePublicID(requestID)
        buffer.writeStaticString(keepsAlive ? "\r\n" : "\r\nconnection: close\r\n")
    }

    private static func write(_ clientID: ClientRequestID?, to buffer: inout ByteBuffer) {
        guard let clientID else { return }
        buffer.writeStaticString("x-client-request-id: ")
        buffer.writeString(clientID.text)
        buffer.writeStaticString("\r\n")
    }

    /// Both families of limit headers: `x-ratelimit-*` in the form of the OpenAI API, and the `RateLimit` fields of the IETF draft
    /// (draft-ietf-httpapi-ratelimit-headers), tightest policy first.
    private static func writeLimits(_ readings: [LimitReading], to buffer: inout ByteBuffer) {
        guard !readings.isEmpty else { return }
        writeTightest(readings, of: .requests, "requests", to: &buffer)
        writeTightest(readings, of: .tokens, "tokens", to: &buffer)
        let sorted = readings.count == 1 ? readings : readings.sorted { $0.remaining < $1.remaining }
        buffer.writeStaticString("\r\nRateLimit-Policy: \"")
        for (index, reading) in sorted.enumerated() {
            if index > 0 { buffer.writeStaticString(", \"") }
            buffer.writeString(reading.policy)
            buffer.writeStaticString("\";q=")
            buffer.writeDecimal(reading.limit)
            if let seconds = reading.windowSeconds {
                buffer.writeStaticString(";w=")
                buffer.writeDecimal(seconds)
            }
            switch reading.unit {
            case .requests: break
            case .tokens: buffer.writeStaticString(";qu=\"tokens\"")
            case .concurrency: buffer.writeStaticString(";qu=\"concurrent-requests\"")
            }
        }
        buffer.writeStaticString("\r\nRateLimit: \"")
        for (index, reading) in sorted.enumerated() {
            if index > 0 { buffer.writeStaticString(", \"") }
            buffer.writeString(reading.policy)
            buffer.writeStaticString("\";r=")
            buffer.writeDecimal(reading.remaining)
            if let seconds = reading.resetSeconds {
                buffer.writeStaticString(";t=")
                buffer.writeDecimal(seconds)
            }
        }
    }

    private static func writeTightest(
        _ readings: [LimitReading], of unit: RateUnit, _ name: StaticString, to buffer: inout ByteBuffer
    ) {
        var tightest: LimitReading?
        for reading in readings where reading.unit == unit && reading.remaining < tightest?.remaining ?? .max {
            tightest = reading
        }
        guard let tightest else { return }
        buffer.writeStaticString("\r\nx-ratelimit-limit-")
        buffer.writeStaticString(name)
        buffer.writeStaticString(": ")
        buffer.writeDecimal(tightest.limit)
        buffer.writeStaticString("\r\nx-ratelimit-remaining-")
        buffer.writeStaticString(name)
        buffer.writeStaticString(": ")
        buffer.writeDecimal(tightest.remaining)
        guard let reset = tightest.resetSeconds else { return }
        buffer.writeStaticString("\r\nx-ratelimit-reset-")
        buffer.writeStaticString(name)
        buffer.writeStaticString(": ")
        buffer.writeDuration(seconds: reset)
    }

    private static func writeTimings(_ timings: StageTimings, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("\r\nserver-timing: auth;dur=")
        buffer.writeMilliseconds(timings.authenticate)
        buffer.writeStaticString(", route;dur=")
        buffer.writeMilliseconds(timings.route)
        buffer.writeStaticString(", quota;dur=")
        buffer.writeMilliseconds(timings.quota)
        buffer.writeStaticString(", upstream;dur=")
        buffer.writeMilliseconds(timings.upstream)
        buffer.writeStaticString(", settle;dur=")
        buffer.writeMilliseconds(timings.settle)
    }

    /// A worker's text goes into a header only if it can do no harm there.
    private static func isFieldSafe(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64 && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        default: "Internal Server Error"
        }
    }
}

/// A duration as the OpenAI API writes it: `1s`, `6m0s`, `26h0m5s`.
func durationText(seconds: Int64) -> String {
    var buffer = ByteBuffer()
    buffer.writeDuration(seconds: seconds)
    return String(buffer: buffer)
}

extension Refusal {
    /// The header fields that go with the refusal.
    var fields: [(String, String)] {
        var fields: [(String, String)] = []
        if code.httpStatus == 401 { fields.append(("www-authenticate", "Bearer")) }
        // A rate limit lets the same request through a little later, unless it asks for more than there ever is.
        let isTransient = code == .rateLimited && retryAfterSeconds != nil
        if [401, 403, 422, 429].contains(code.httpStatus), !isTransient { fields.append(("x-should-retry", "false")) }
        if let retryAfterSeconds {
            fields.append(("retry-after", String(retryAfterSeconds)))
            if code != .quotaExceeded {
                let milliseconds = rate?.waitMilliseconds ?? Int64(retryAfterSeconds) * 1_000
                fields.append(("retry-after-ms", String(milliseconds)))
            }
        }
        if let rate { fields += rate.fields }
        if let quota {
            let name = quota.quota.unit.rawValue
            fields.append(("x-ratelimit-limit-\(name)", String(quota.quota.amount)))
            fields.append(
                ("x-ratelimit-remaining-\(name)", String(max(0, quota.quota.amount - quota.settled - quota.held))))
            if let retryAfterSeconds {
                fields.append(("x-ratelimit-reset-\(name)", durationText(seconds: Int64(retryAfterSeconds))))
            }
            let seconds = quota.period.end.milliseconds(since: quota.period.start) / 1_000
            let window = quota.quota.frequency.recurs ? ";w=\(seconds)" : ""
            fields.append(
                (
                    "RateLimit-Policy",
                    "\"\(quota.quota.policy)\";q=\(quota.quota.amount)\(window)"
                        + (quota.quota.unit == .tokens ? ";qu=\"tokens\"" : "")
                ))
            let reset = retryAfterSeconds.map { ";t=\($0)" } ?? ""
            fields.append(
                (
                    "RateLimit",
                    "\"\(quota.quota.policy)\";r=\(max(0, quota.quota.amount - quota.settled - quota.held))\(reset)"
                ))
        }
        if !allowedMethods.isEmpty { fields.append(("allow", allowedMethods.joined(separator: ", "))) }
        return fields
    }
}

extension RateRefusal {
    /// Both families of limit headers, with the numbers that decided.
    fileprivate var fields: [(String, String)] {
        let isTimed = unit != .concurrency
        var fields: [(String, String)] = []
        if isTimed {
            fields.append(("x-ratelimit-limit-\(unit.rawValue)", String(limit.amount)))
            fields.append(("x-ratelimit-remaining-\(unit.rawValue)", String(remaining)))
            fields.append(("x-ratelimit-reset-\(unit.rawValue)", durationText(seconds: resetSeconds)))
        }
        let name =
            switch unit {
            case .requests: ""
            case .tokens: ";qu=\"tokens\""
            case .concurrency: ";qu=\"concurrent-requests\""
            }
        fields.append(("RateLimit-Policy", "\"\(policy)\";q=\(limit.amount)\(isTimed ? ";w=60" : "")\(name)"))
        fields.append(("RateLimit", "\"\(policy)\";r=\(remaining)\(isTimed ? ";t=\(resetSeconds)" : "")"))
        return fields
    }
}

extension ByteBuffer {
    /// See ``durationText(seconds:)``.
    fileprivate mutating func writeDuration(seconds: Int64) {
        let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60)
        if hours > 0 {
            writeDecimal(hours)
            writeStaticString("h")
        }
        if hours > 0 || minutes > 0 {
            writeDecimal(minutes)
            writeStaticString("m")
        }
        writeDecimal(rest)
        writeStaticString("s")
    }

    /// Milliseconds with three places.
    fileprivate mutating func writeMilliseconds(_ nanoseconds: UInt64) {
        let microseconds = Int64(clamping: nanoseconds / 1_000)
        writeDecimal(microseconds / 1_000)
        let fraction = microseconds % 1_000
        writeStaticString(fraction < 10 ? ".00" : fraction < 100 ? ".0" : ".")
        writeDecimal(fraction)
    }
}
