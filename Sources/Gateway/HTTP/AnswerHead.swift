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
            loop.withDate(at: now) { date in
                AnswerWriter.append(to: &buffer, expecting: answer.receipt == nil ? 2_048 : 4_096) { writer in
                    writer.write("HTTP/1.1 200 OK\r\n")
                    // What another type is stands among its facts.
                    if answer.mediaType == nil {
                        writer.write(
                            answer.jsonByteCount == nil
                                ? "content-type: application/json\r\n" : "content-type: application/octet-stream\r\n")
                    }
                    writeStart(body.readableBytes, answer.requestID, clientID, keepsAlive, date, to: &writer)
                    writeFacts(answer, to: &writer)
                    if let receipt = answer.receipt {
                        writer.write("\r\nx-weir-receipt: ")
                        writer.write(receipt)
                    }
                    for name in answer.degradations {
                        writer.write("\r\nx-weir-degraded: ")
                        writer.write(name)
                    }
                    writeLimits(answer.limits, to: &writer)
                    writeTimings(answer.timings, to: &writer)
                    writer.write("\r\n\r\n")
                    writer.write(body)
                }
            }
        }
    }

    /// The fields of every answer, and the caller's own name for its request.
    private static func writeStart(
        _ bodyByteCount: Int, _ requestID: RequestID, _ clientID: ClientRequestID?, _ keepsAlive: Bool, _ date: [UInt8],
        to writer: inout AnswerWriter
    ) {
        writer.write("content-length: ")
        writer.writeDecimal(Int64(bodyByteCount))
        writer.write("\r\ndate: ")
        writer.write(date)
        writer.write("\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: ")
        writer.writePublicID(requestID)
        if keepsAlive { writer.write("\r\n") } else { writer.write("\r\nconnection: close\r\n") }
        if let clientID {
            writer.write("x-client-request-id: ")
            writer.write(clientID.text)
            writer.write("\r\n")
        }
    }

    /// The fields that belong to the answer and not to the moment, with CRLF between them: what is kept of the head under an idempotency key.
    static func writeFacts(_ answer: Prediction, to buffer: inout ByteBuffer) {
        AnswerWriter.append(to: &buffer, expecting: 512) { writeFacts(answer, to: &$0) }
    }

    private static func writeFacts(_ answer: Prediction, to writer: inout AnswerWriter) {
        if let type = answer.mediaType {
            // Never shown in place: an image can hold a script.
            writer.write("content-type: ")
            writer.write(type)
            writer.write("\r\ncontent-disposition: attachment\r\ncontent-security-policy: ")
            writer.write("sandbox; default-src 'none'\r\n")
        }
        writer.write("x-weir-model: ")
        writer.write(answer.model)
        if isFieldSafe(answer.version) {
            writer.write("\r\nx-weir-model-version: ")
            writer.write(answer.version)
        }
        writer.write("\r\nx-weir-usage: in=")
        writer.writeDecimal(answer.usage.inputTokens)
        writer.write(", cached=")
        writer.writeDecimal(answer.usage.cachedInputTokens)
        writer.write(", out=")
        writer.writeDecimal(answer.usage.outputTokens)
        if let cost = answer.cost {
            writer.write("\r\nx-weir-price-version: ")
            writer.write(answer.priceVersion)
            writer.write("\r\nx-weir-cost-micros: ")
            writer.writeDecimal(cost.value)
            writer.write("; currency=")
            writer.write(answer.currency)
        }
        if let cache = answer.cache { write(cache, to: &writer) }
        if let count = answer.jsonByteCount {
            writer.write(binaryMark)
            writer.writeDecimal(Int64(count))
        }
    }

    /// The field that says where the JSON of a body ends; whoever has it has a body that is not JSON alone.
    private static let binaryMark = "\r\nInference-Header-Content-Length: "

    /// `Cache-Status` (RFC 9211) and, for an answer that was kept, `Age` (RFC 9111, section 5.1).
    private static func write(_ cache: CacheStatus, to writer: inout AnswerWriter) {
        switch cache {
        case .hit(let ttlSeconds, let ageSeconds):
            writer.write("\r\nCache-Status: weir; hit; ttl=")
            writer.writeDecimal(ttlSeconds)
            writer.write("\r\nAge: ")
            writer.writeDecimal(ageSeconds)
        case .collapsed(let ttlSeconds):
            writer.write("\r\nCache-Status: weir; fwd=uri-miss; collapsed; ttl=")
            writer.writeDecimal(ttlSeconds)
        case .forwarded(let reason, let isStored):
            writer.write("\r\nCache-Status: weir; fwd=")
            writer.write(reason.rawValue)
            if isStored { writer.write("; stored") }
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
        AnswerWriter.append(to: &buffer, expecting: 1_024) { writer in
            // For proxies that would gather the answer before they pass it on.
            writer.write("x-accel-buffering: no\r\nx-weir-model: ")
            writer.write(facts.model)
            if isFieldSafe(facts.version) {
                writer.write("\r\nx-weir-model-version: ")
                writer.write(facts.version)
            }
            for name in facts.degradations {
                writer.write("\r\nx-weir-degraded: ")
                writer.write(name)
            }
            writeLimits(facts.limits, to: &writer)
            writeTimings(facts.timings, to: &writer)
            writer.write("\r\n\r\n")
        }
        return buffer
    }

    /// An answer that was kept, under the id of the request that was charged for it. The limits are those of now.
    static func replay(
        _ answer: KeptAnswer, limits: [LimitReading], clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp,
        on loop: LoopContext
    ) -> ByteBuffer {
        loop.composeAnswer { _, buffer in
            loop.withDate(at: now) { date in
                AnswerWriter.append(to: &buffer, expecting: 2_048) { writer in
                    writer.write("HTTP/1.1 \(answer.status) \(reasonPhrase(answer.status))\r\n")
                    if !answer.fields.hasPrefix("content-type: ") {
                        writer.write(
                            answer.fields.contains(binaryMark)
                                ? "content-type: application/octet-stream\r\n" : "content-type: application/json\r\n")
                    }
                    writeStart(answer.body.count, answer.requestID, clientID, keepsAlive, date, to: &writer)
                    writer.write(answer.fields)
                    writer.write("\r\nIdempotent-Replayed: true")
                    writeLimits(limits, to: &writer)
                    writer.write("\r\n\r\n")
                    writer.write(answer.body)
                }
            }
        }
    }

    static func accepted(
        _ job: AcceptedJob, clientID: ClientRequestID?, keepsAlive: Bool, at now: Timestamp, on loop: LoopContext
    ) -> ByteBuffer {
        loop.composeAnswer { body, buffer in
            AcceptedJob.writeBody(job.requestID, to: &body)
            var fields = ByteBuffer()
            AcceptedJob.writeFields(job.requestID, isPreferenceApplied: job.isPreferenceApplied, to: &fields)
            loop.withDate(at: now) { date in
                AnswerWriter.append(to: &buffer, expecting: 1_024) { writer in
                    writer.write("HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\n")
                    writeStart(body.readableBytes, job.requestID, clientID, keepsAlive, date, to: &writer)
                    writer.write(fields)
                    writeLimits(job.limits, to: &writer)
                    writer.write("\r\n\r\n")
                    writer.write(body)
                }
            }
        }
    }

    /// What an event says that tells of a failure.
    static func eventBody(_ refusal: Refusal, in dialect: ErrorDialect) -> ByteBuffer {
        dialect == .openInference ? ProblemAnswer.openInference(refusal) : ProblemAnswer.openAI(refusal)
    }

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

    /// Both families of limit headers: `x-ratelimit-*` in the form of the OpenAI API, and the `RateLimit` fields of the IETF draft
    /// (draft-ietf-httpapi-ratelimit-headers), tightest policy first.
    private static func writeLimits(_ readings: [LimitReading], to writer: inout AnswerWriter) {
        guard !readings.isEmpty else { return }
        writeTightest(readings, of: .requests, "requests", to: &writer)
        writeTightest(readings, of: .tokens, "tokens", to: &writer)
        // Two are the common case: turned round in reading, and not sorted into memory of their own.
        let isTurned = readings.count == 2 && readings[1].remaining < readings[0].remaining
        let sorted = readings.count <= 2 ? readings : readings.sorted { $0.remaining < $1.remaining }
        writer.write("\r\nRateLimit-Policy: \"")
        for index in sorted.indices {
            if index > 0 { writer.write(", \"") }
            writePolicy(sorted[isTurned ? 1 - index : index], to: &writer)
        }
        writer.write("\r\nRateLimit: \"")
        for index in sorted.indices {
            if index > 0 { writer.write(", \"") }
            writeRemaining(sorted[isTurned ? 1 - index : index], to: &writer)
        }
        for index in sorted.indices {
            let reading = sorted[isTurned ? 1 - index : index]
            guard reading.isExceeded else { continue }
            writer.write("\r\nx-weir-quota-exceeded: ")
            writer.write(reading.policy)
        }
    }

    private static func writePolicy(_ reading: LimitReading, to writer: inout AnswerWriter) {
        writer.write(reading.policy)
        writer.write("\";q=")
        writer.writeDecimal(reading.limit)
        if let seconds = reading.windowSeconds {
            writer.write(";w=")
            writer.writeDecimal(seconds)
        }
        switch reading.unit {
        case .requests: break
        case .tokens: writer.write(";qu=\"tokens\"")
        case .concurrency: writer.write(";qu=\"concurrent-requests\"")
        }
    }

    private static func writeRemaining(_ reading: LimitReading, to writer: inout AnswerWriter) {
        writer.write(reading.policy)
        writer.write("\";r=")
        writer.writeDecimal(reading.remaining)
        guard let seconds = reading.resetSeconds else { return }
        writer.write(";t=")
        writer.writeDecimal(seconds)
    }

    private static func writeTightest(
        _ readings: [LimitReading], of unit: RateUnit, _ name: StaticString, to writer: inout AnswerWriter
    ) {
        var place: Int?
        for index in readings.indices where readings[index].counts(unit) {
            if readings[index].remaining < place.map({ readings[$0].remaining }) ?? .max { place = index }
        }
        guard let place else { return }
        writer.write("\r\nx-ratelimit-limit-")
        writer.write(name)
        writer.write(": ")
        writer.writeDecimal(readings[place].limit)
        writer.write("\r\nx-ratelimit-remaining-")
        writer.write(name)
        writer.write(": ")
        writer.writeDecimal(readings[place].remaining)
        guard let reset = readings[place].resetSeconds else { return }
        writer.write("\r\nx-ratelimit-reset-")
        writer.write(name)
        writer.write(": ")
        writer.writeDuration(seconds: reset)
    }

    private static func writeTimings(_ timings: StageTimings, to writer: inout AnswerWriter) {
        writer.write("\r\nserver-timing: auth;dur=")
        writer.writeMilliseconds(timings.authenticate)
        writer.write(", route;dur=")
        writer.writeMilliseconds(timings.route)
        writer.write(", quota;dur=")
        writer.writeMilliseconds(timings.quota)
        writer.write(", upstream;dur=")
        writer.writeMilliseconds(timings.upstream)
        writer.write(", settle;dur=")
        writer.writeMilliseconds(timings.settle)
    }

    /// A worker's text goes into a header only if it can do no harm there.
    private static func isFieldSafe(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64 && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }
}

extension LimitReading {
    /// The cases are compared, because `==` of an enumeration with texts compares the texts.
    fileprivate func counts(_ unit: RateUnit) -> Bool {
        switch (self.unit, unit) {
        case (.requests, .requests), (.tokens, .tokens), (.concurrency, .concurrency): true
        default: false
        }
    }
}
