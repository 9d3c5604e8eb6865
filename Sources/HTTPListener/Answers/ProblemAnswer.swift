public import Domain
public import NIOCore

/// How a listener writes and counts what it refuses.
public struct ProblemStyle: Sendable {
    /// What a problem's `instance` is (RFC 9457, section 3.1.5).
    public enum Instance: Sendable {
        /// The request's own resource on the public listener.
        case request
        /// The request's id as a URN, where there is no such resource.
        case uuid
    }

    let instance: Instance
    let dialect: @Sendable (String) -> ErrorDialect
    let count: @Sendable (FailureCode) -> Void

    /// - Parameters:
    ///   - dialect: of a request target, or of its path.
    ///   - count: called once for each refusal.
    public init(
        instance: Instance, dialect: @escaping @Sendable (String) -> ErrorDialect = { _ in .problem },
        count: @escaping @Sendable (FailureCode) -> Void
    ) {
        self.instance = instance
        self.dialect = dialect
        self.count = count
    }
}

/// What a refusal looks like in each dialect, written as bytes.
public enum ProblemAnswer {
    /// A whole answer: status line, fields, body.
    public static func message(
        _ refusal: Refusal, in dialect: ErrorDialect = .problem, requestID: RequestID, instance: ProblemStyle.Instance,
        clientID: ClientRequestID? = nil, keepsAlive: Bool, date: [UInt8]
    ) -> ByteBuffer {
        let body = body(refusal, in: dialect, requestID: requestID, instance: instance)
        let status = dialect.status(of: refusal.code)
        var buffer = ByteBuffer()
        buffer.reserveCapacity(500 + body.readableBytes)
        buffer.writeAnswerStart(
            "HTTP/1.1 \(status) \(reasonPhrase(status))\r\ncontent-type: \(dialect.contentType)\r\n",
            bodyByteCount: body.readableBytes, requestID: requestID, keepsAlive: keepsAlive, date: date)
        if let clientID { buffer.writeClientRequestID(clientID) }
        buffer.writeString(fieldLines(of: refusal))
        buffer.writeStaticString("\r\n\r\n")
        buffer.writeImmutableBuffer(body)
        return buffer
    }

    /// The fields of the refusal itself, with CRLF between them.
    public static func fieldLines(of refusal: Refusal) -> String {
        refusal.fields.reduce(into: "x-weir-error: \(refusal.code.rawValue)") { $0 += "\r\n\($1.0): \($1.1)" }
    }

    /// The body of a refusal, as JSON.
    public static func body(
        _ refusal: Refusal, in dialect: ErrorDialect = .problem, requestID: RequestID, instance: ProblemStyle.Instance
    ) -> ByteBuffer {
        switch dialect {
        case .problem: problem(refusal, requestID: requestID, instance: instance)
        case .openAI: openAI(refusal)
        case .openInference: openInference(refusal)
        }
    }

    /// `{"error": {message, type, param, code}}`: all four are there always, because the API's own schema asks for them.
    public static func openAI(_ refusal: Refusal) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeStaticString("{\"error\":{\"message\":")
        body.writeJSONString(refusal.detail)
        body.writeStaticString(",\"type\":")
        body.writeJSONString(refusal.code.openAIType)
        body.writeStaticString(",\"param\":")
        if let location = refusal.errors.first?.location {
            // A JSON Pointer of ours; that API names fields with dots.
            body.writeJSONString(String(location.drop { $0 == "/" }).split(separator: "/").joined(separator: "."))
        } else {
            body.writeStaticString("null")
        }
        body.writeStaticString(",\"code\":")
        body.writeJSONString(refusal.code.openAICode)
        body.writeStaticString("}}")
        return body
    }

    /// `{"error": "<text>"}`.
    public static func openInference(_ refusal: Refusal) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeStaticString("{\"error\":")
        body.writeJSONString(refusal.detail)
        body.writeStaticString("}")
        return body
    }

    /// Problem details (RFC 9457) with our extensions.
    private static func problem(
        _ refusal: Refusal, requestID: RequestID, instance: ProblemStyle.Instance
    ) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeStaticString("{\"type\":")
        body.writeJSONString(refusal.code.typeURI)
        body.writeStaticString(",\"title\":")
        body.writeJSONString(refusal.code.title)
        body.writeStaticString(",\"status\":")
        body.writeDecimal(Int64(refusal.code.httpStatus))
        body.writeStaticString(",\"detail\":")
        body.writeJSONString(refusal.detail)
        switch instance {
        case .request:
            body.writeStaticString(",\"instance\":\"/api/v1/requests/")
            body.writePublicID(requestID)
        case .uuid:
            body.writeStaticString(",\"instance\":\"urn:uuid:")
            body.writeIdentifier(requestID)
        }
        body.writeStaticString("\",\"code\":\"")
        body.writeString(refusal.code.rawValue)
        body.writeStaticString("\",\"request_id\":\"")
        body.writePublicID(requestID)
        body.writeStaticString("\"")
        if let quota = refusal.quota { writeQuota(quota, to: &body) }
        if let rate = refusal.rate { writeRate(rate, to: &body) }
        if let charge = refusal.charge { writeCharge(charge, to: &body) }
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

    private static func writeCharge(_ charge: FailureCharge, to body: inout ByteBuffer) {
        body.writeString(
            ",\"charge\":{\"reason\":\"failed_request\",\"requests\":1,\"price_version\":\"\(charge.tierVersionID.priceVersionText)\""
                + ",\"cost_micros\":\(charge.cost.map { String($0.value) } ?? "null"),\"currency\":\"\(charge.currency)\"}"
        )
    }

    private static func writeQuota(_ refusal: QuotaRefusal, to body: inout ByteBuffer) {
        let quota = refusal.quota
        let reset = quota.frequency.recurs ? ",\"resets_at\":\"\(refusal.period.end)\"" : ""
        body.writeString(
            ",\"violated-policies\":[\"\(quota.policy)\"],\"quota\":{\"policy\":\"\(quota.policy)\",\"unit\":\"\(quota.unit.rawValue)\""
                + ",\"limit\":\(quota.amount),\"settled\":\(refusal.settled),\"held\":\(refusal.held)"
                + ",\"requested\":\(refusal.requested)\(reset)}")
    }

    private static func writeRate(_ numbers: RateRefusal, to body: inout ByteBuffer) {
        let wait = numbers.waitMilliseconds.map { ",\"retry_after_ms\":\($0)" } ?? ""
        body.writeString(
            ",\"violated-policies\":[\"\(numbers.policy)\"],\"rate_limit\":{\"policy\":\"\(numbers.policy)\""
                + ",\"scope\":\"\(numbers.scope.rawValue)\",\"unit\":\"\(numbers.unit.rawValue)\",\"limit\":\(numbers.limit.amount)"
                + ",\"burst\":\(numbers.limit.burst),\"remaining\":\(numbers.remaining),\"requested\":\(numbers.requested)\(wait)}"
        )
    }
}
