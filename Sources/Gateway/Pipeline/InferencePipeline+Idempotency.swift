internal import Domain
internal import HTTPListener
internal import NIOCore

/// What the pipeline does for a request with an `Idempotency-Key`, and for no other.
extension InferencePipeline {
    /// Before the model is looked up: a request that was charged is answered again also when its model has gone since.
    func claim(
        _ call: InferenceCall, _ request: InferenceRequest, _ principal: Principal
    ) async throws(Refusal) -> ClaimKeeper.Admission {
        guard settler.isAccepting else { throw .storeAway(cause: "settlement is not accepting") }
        return try await claims.claim(
            call.idempotencyFields,
            operation: call.target.idempotencyOperation + (call.target.isAsync ? " async" : ""),
            body: request.tape, binary: request.binary,
            of: principal.tenantID,
            for: call.requestID)
    }

    /// What is kept of a refusal that is charged, byte for byte as it is sent.
    static func answer(_ refusal: Refusal, to work: HeldRequest, of claim: IdempotencyClaim) -> ClaimedAnswer {
        let dialect = work.call.target.surface.dialect
        let body = ProblemAnswer.body(refusal, in: dialect, requestID: work.call.requestID, instance: .request)
        let fields = "content-type: \(dialect.contentType)\r\n" + ProblemAnswer.fieldLines(of: refusal)
        return ClaimedAnswer(claim: claim, fields: Array(fields.utf8), body: Array(body.readableBytesView))
    }

    /// What is kept of an answer, byte for byte as it is sent.
    static func answer(_ prediction: Prediction, of claim: IdempotencyClaim) -> ClaimedAnswer {
        var (fields, body) = (ByteBuffer(), ByteBuffer())
        AnswerHead.writeFacts(prediction, to: &fields)
        AnswerBody.write(prediction, to: &body)
        return ClaimedAnswer(
            claim: claim, fields: Array(fields.readableBytesView), body: Array(body.readableBytesView))
    }
}
