internal import Domain
internal import HTTPListener
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
        if let clientID { buffer.writeClientRequestID(clientID) }
        writeFacts(answer, to: &buffer)
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
        if let cache = answer.cache { write(cache, to: &buffer) }
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

    /// The head of an answer that is sent piece by piece.
    static func stream(
        _ facts: StreamHead, clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp, on loop: LoopContext
    ) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(1_024)
        loop.withDate(at: now) { date in
            buffer.writeAnswerStart(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n", bodyByteCount: nil,
                requestID: facts.requestID, keepsAlive: keepsAlive, date: date)
        }
        if let clientID { buffer.writeClientRequestID(clientID) }
        // For proxies that would gather the answer before they pass it on.
        buffer.writeStaticString("x-accel-buffering: no\r\nx-weir-model: ")
        buffer.writeString(facts.model)
        if isFieldSafe(facts.version) {
            buffer.writeStaticString("\r\nx-weir-model-version: ")
            buffer.writeString(facts.version)
        }
        for name in facts.degradations {
            buffer.writeStaticString("\r\nx-weir-degraded: ")
            buffer.writeString(name)
        }
        writeLimits(facts.limits, to: &buffer)
        writeTimings(facts.timings, to: &buffer)
        buffer.writeStaticString("\r\n\r\n")
        return buffer
    }

    /// An answer that was kept, under the id of the request that was charged for it. The limits are those of now.
    static func replay(
        _ answer: KeptAnswer, limits: [LimitReading], clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp,
        on loop: LoopContext
    ) -> ByteBuffer {
        loop.composeAnswer { body, buffer in
            body.writeBytes(answer.body)
            begin(
                &buffer,
                "HTTP/1.1 \(answer.status) \(reasonPhrase(answer.status))\r\n"
                    + (answer.fields.hasPrefix("content-type: ") ? "" : "content-type: application/json\r\n"),
                body,
                answer.requestID, keepsAlive, now, loop)
            if let clientID { buffer.writeClientRequestID(clientID) }
            buffer.writeString(answer.fields)
            buffer.writeStaticString("\r\nIdempotent-Replayed: true")
            writeLimits(limits, to: &buffer)
            buffer.writeStaticString("\r\n\r\n")
            buffer.writeImmutableBuffer(body)
        }
    }

    static func accepted(
        _ job: AcceptedJob, clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp, on loop: LoopContext
    ) -> ByteBuffer {
        loop.composeAnswer { body, buffer in
            AcceptedJob.writeBody(job.requestID, to: &body)
            begin(
                &buffer, "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\n", body, job.requestID,
                keepsAlive, now, loop)
            if let clientID { buffer.writeClientRequestID(clientID) }
            AcceptedJob.writeFields(job.requestID, isPreferenceApplied: job.isPreferenceApplied, to: &buffer)
            writeLimits(job.limits, to: &buffer)
            buffer.writeStaticString("\r\n\r\n")
            buffer.writeImmutableBuffer(body)
        }
    }

    /// What an event says that tells of a failure.
    static func openAIBody(_ refusal: Refusal) -> ByteBuffer { ProblemAnswer.openAI(refusal) }

    static func problem(
        _ refusal: Refusal, in dialect: ErrorDialect, requestID: RequestID, clientID: ClientRequestID? = nil,
        keepsAlive: Bool, at now: Timestamp, on loop: LoopContext
    ) -> ByteBuffer {
        var answer = ByteBuffer()
        loop.withDate(at: now) { date in
            answer = ProblemAnswer.message(
                refusal, in: dialect, requestID: requestID, instance: .request, clientID: clientID,
                keepsAlive: keepsAlive,
                date: date)
        }
        return answer
    }

    private static func begin(
        _ buffer: inout ByteBuffer, _ start: String, _ body: ByteBuffer, _ requestID: RequestID, _ keepsAlive: Bool,
        _ now: Timestamp,
        _ loop: LoopContext
    ) {
        loop.withDate(at: now) { date in
            buffer.writeAnswerStart(
                start, bodyByteCount: body.readableBytes, requestID: requestID, keepsAlive: keepsAlive, date: date)
        }
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
        for reading in sorted where reading.isExceeded {
            buffer.writeStaticString("\r\nx-weir-quota-exceeded: ")
            buffer.writeString(reading.policy)
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
}

extension ByteBuffer {
    /// Milliseconds with three places.
    fileprivate mutating func writeMilliseconds(_ nanoseconds: UInt64) {
        let microseconds = Int64(clamping: nanoseconds / 1_000)
        writeDecimal(microseconds / 1_000)
        let fraction = microseconds % 1_000
        writeStaticString(fraction < 10 ? ".00" : fraction < 100 ? ".0" : ".")
        writeDecimal(fraction)
    }
}
