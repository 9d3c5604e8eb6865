internal import Domain
internal import HTTPListener
internal import NIOCore

/// The bodies of the data plane, written as bytes: an encoder would cost more than the rest of the answer.
enum AnswerBody {
    /// `{request_id, model, version, prediction, probabilities?, cached, usage}`; what the worker said is spliced in as it came.
    static func write(_ answer: Prediction, to body: inout ByteBuffer) {
        guard answer.surface == .predict else {
            body.writeImmutableBuffer(answer.prediction)
            return
        }
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

    /// What is kept of a result: `{prediction, probabilities?}`, or the answer as it was sent where the surface passes it on.
    static func result(_ reading: WorkerReading, on surface: Surface) -> [UInt8] {
        guard surface == .predict else { return Array(reading.prediction.readableBytesView) }
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
}
