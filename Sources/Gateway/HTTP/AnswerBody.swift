internal import Domain
internal import NIOCore

/// The bodies of the data plane, written as bytes: an encoder would cost more than the rest of the answer.
enum AnswerBody {
    /// `{request_id, model, version, prediction, probabilities?, cached, usage}`; what the worker said is spliced in as it came.
    static func write(_ answer: Prediction, to body: inout ByteBuffer) {
        body.writeStaticString("{\"request_id\":\"")
        body.writePublicID(answer.requestID)
        body.writeStaticString("\",\"model\":\"")
        // A model's name holds no character that JSON would have to escape.
        body.writeString(answer.model)
        body.writeStaticString("\",\"version\":")
        body.writeJSONString(answer.version)
        body.writeStaticString(",\"prediction\":")
        body.writeImmutableBuffer(answer.prediction)
        if let probabilities = answer.probabilities {
            body.writeStaticString(",\"probabilities\":")
            body.writeImmutableBuffer(probabilities)
        }
        body.writeStaticString(
            answer.cache?.isServedFromCache == true
                ? ",\"cached\":true,\"usage\":{\"input_tokens\":" : ",\"cached\":false,\"usage\":{\"input_tokens\":")
        body.writeDecimal(answer.usage.inputTokens)
        body.writeStaticString(",\"cached_input_tokens\":")
        body.writeDecimal(answer.usage.cachedInputTokens)
        body.writeStaticString(",\"output_tokens\":")
        body.writeDecimal(answer.usage.outputTokens)
        body.writeStaticString(",\"source\":\"")
        body.writeString(answer.usage.source.rawValue)
        body.writeStaticString("\"}}")
    }

    /// What is kept of a result: `{prediction, probabilities?}`.
    static func result(_ reading: WorkerReading) -> [UInt8] {
        var body = ByteBuffer()
        body.writeStaticString("{\"prediction\":")
        body.writeImmutableBuffer(reading.prediction)
        if let probabilities = reading.probabilities {
            body.writeStaticString(",\"probabilities\":")
            body.writeImmutableBuffer(probabilities)
        }
        body.writeStaticString("}")
        return Array(body.readableBytesView)
    }

    /// Problem details (RFC 9457) with our extensions.
    static func problem(_ refusal: Refusal, requestID: RequestID) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeStaticString("{\"type\":")
        body.writeJSONString(refusal.code.typeURI)
        body.writeStaticString(",\"title\":")
        body.writeJSONString(refusal.code.title)
        body.writeStaticString(",\"status\":")
        body.writeDecimal(Int64(refusal.code.httpStatus))
        body.writeStaticString(",\"detail\":")
        body.writeJSONString(refusal.detail)
        body.writeStaticString(",\"instance\":\"/api/v1/requests/")
        body.writePublicID(requestID)
        body.writeStaticString("\",\"code\":\"")
        body.writeString(refusal.code.rawValue)
        body.writeStaticString("\",\"request_id\":\"")
        body.writePublicID(requestID)
        body.writeStaticString("\"")
        if let quota = refusal.quota { writeQuota(quota, to: &body) }
        if let rate = refusal.rate { writeRate(rate, to: &body) }
        body.writeStaticString(",\"errors\":[")
        for (index, error) in refusal.errors.enumerated() {
            body.writeStaticString(index == 0 ? "{\"location\":" : ",{\"location\":")
            body.writeJSONString(error.location)
            body.writeStaticString(",\"message\":")
            body.writeJSONString(error.message)
            body.writeStaticString(",\"fix\":")
            body.writeJSONString(error.fix)
            body.writeStaticString("}")
        }
        body.writeStaticString("]}")
        return body
    }

    private static func writeQuota(_ refusal: QuotaRefusal, to body: inout ByteBuffer) {
        let quota = refusal.quota
        let reset = quota.frequency.recurs ? ",\"resets_at\":\"\(refusal.period.end)\"" : ""
        body.writeString(
            ",\"violated-policies\":[\"\(quota.policy)\"],\"quota\":{\"policy\":\"\(quota.policy)\",\"unit\":\"\(quota.unit.rawValue)\""
                + ",\"limit\":\(quota.amount),\"settled\":\(refusal.settled),\"held\":\(refusal.held)"
                + ",\"requested\":\(refusal.requested)\(reset)}")
    }
}

extension AnswerBody {
    private static func writeRate(_ numbers: RateRefusal, to body: inout ByteBuffer) {
        let wait = numbers.waitMilliseconds.map { ",\"retry_after_ms\":\($0)" } ?? ""
        body.writeString(
            ",\"violated-policies\":[\"\(numbers.policy)\"],\"rate_limit\":{\"policy\":\"\(numbers.policy)\""
                + ",\"scope\":\"\(numbers.scope.rawValue)\",\"unit\":\"\(numbers.unit.rawValue)\",\"limit\":\(numbers.limit.amount)"
                + ",\"burst\":\(numbers.limit.burst),\"remaining\":\(numbers.remaining),\"requested\":\(numbers.requested)\(wait)}"
        )
    }
}

extension ByteBuffer {
    /// `req_` and the UUID.
    mutating func writePublicID(_ id: RequestID) {
        writeStaticString("req_")
        writeIdentifier(id)
    }

    mutating func writeIdentifier<Kind>(_ id: Identifier<Kind>) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: 36) { pointer in
            var next = 0
            id.writeASCII { byte in
                pointer[next] = byte
                next += 1
            }
            return next
        }
    }

    mutating func writeDecimal(_ value: Int64) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: 20) { pointer in
            var digits = value.magnitude
            var count = 0
            repeat {
                pointer[count] = 0x30 + UInt8(truncatingIfNeeded: digits % 10)
                digits /= 10
                count += 1
            } while digits > 0
            if value < 0 {
                pointer[count] = UInt8(ascii: "-")
                count += 1
            }
            var written = UnsafeMutableRawBufferPointer(rebasing: pointer[0..<count])
            written.reverse()
            return count
        }
    }

    /// A string with its quotes; escapes what RFC 8259 says must be escaped.
    mutating func writeJSONString(_ text: String) {
        writeStaticString("\"")
        var start = text.utf8.startIndex
        for index in text.utf8.indices {
            let byte = text.utf8[index]
            guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
            writeSubstring(text[start..<index])
            if byte < 0x20 {
                writeStaticString("\\u00")
                writeInteger(byte >> 4 == 0 ? UInt8(0x30) : UInt8(0x31))
                let low = byte & 15
                writeInteger(low < 10 ? 0x30 + low : 0x61 + low - 10)
            } else {
                writeStaticString("\\")
                writeInteger(byte)
            }
            start = text.utf8.index(after: index)
        }
        writeSubstring(text[start...])
        writeStaticString("\"")
    }
}
