internal import Domain
internal import HTTPListener
internal import NIOCore

/// The bodies of the data plane, written as bytes: an encoder would cost more than the rest of the answer.
enum AnswerBody {
    /// `{request_id, model, version, prediction, probabilities?, cached, usage}`; what the worker said is spliced in as it came.
    static func write(_ answer: Prediction, to body: inout ByteBuffer) {
        guard case .predict = answer.surface, answer.mediaType == nil else {
            body.writeImmutableBuffer(answer.prediction)
            return
        }
        AnswerWriter.append(to: &body, expecting: 512 + answer.prediction.readableBytes) { write(answer, to: &$0) }
    }

    private static func write(_ answer: Prediction, to body: inout AnswerWriter) {
        body.write("{\"request_id\":\"")
        body.writePublicID(answer.requestID)
        body.write("\",\"model\":\"")
        // A model's name holds no character that JSON would have to escape.
        body.write(answer.model)
        body.write("\",\"version\":")
        body.writeJSONString(answer.version)
        body.write(",\"prediction\":")
        body.write(answer.prediction)
        if let probabilities = answer.probabilities {
            body.write(",\"probabilities\":")
            body.write(probabilities)
        }
        if answer.isCached {
            body.write(",\"cached\":true,\"usage\":{\"input_tokens\":")
        } else {
            body.write(",\"cached\":false,\"usage\":{\"input_tokens\":")
        }
        body.writeDecimal(answer.usage.inputTokens)
        body.write(",\"cached_input_tokens\":")
        body.writeDecimal(answer.usage.cachedInputTokens)
        body.write(",\"output_tokens\":")
        body.writeDecimal(answer.usage.outputTokens)
        body.write(",\"source\":\"")
        body.write(answer.usage.source.rawValue)
        body.write("\"}}")
    }

    /// What is kept of a result: `{prediction, probabilities?}`, or the answer as it was sent where the surface passes it on.
    static func result(_ reading: WorkerReading, on surface: Surface) -> [UInt8] {
        guard surface == .predict, reading.mediaType == nil else { return Array(reading.prediction.readableBytesView) }
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
