internal import Domain
internal import HTTPListener
internal import NIOCore

/// A job that is queued durably.
struct AcceptedJob: Sendable {
    let requestID: RequestID
    let limits: [LimitReading]
    /// The caller asked for it by `Prefer`, and is told that this was heeded (RFC 7240, section 3).
    let isPreferenceApplied: Bool

    /// `{request_id, status}`.
    static func writeBody(_ id: RequestID, to body: inout ByteBuffer) {
        body.writeStaticString("{\"request_id\":\"")
        body.writePublicID(id)
        body.writeStaticString("\",\"status\":\"queued\"}")
    }

    /// The fields that belong to the answer and not to the moment, with CRLF between them.
    static func writeFields(_ id: RequestID, isPreferenceApplied: Bool, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("Location: /api/v1/jobs/")
        buffer.writePublicID(id)
        buffer.writeStaticString("\r\nRetry-After: 1")
        if isPreferenceApplied { buffer.writeStaticString("\r\nPreference-Applied: respond-async") }
    }

    /// What is kept of it under an idempotency key.
    static func answer(_ call: InferenceCall, of claim: IdempotencyClaim) -> ClaimedAnswer {
        var (fields, body) = (ByteBuffer(), ByteBuffer())
        writeFields(call.requestID, isPreferenceApplied: call.target.isAsyncPreferred, to: &fields)
        writeBody(call.requestID, to: &body)
        return ClaimedAnswer(
            claim: claim, fields: Array(fields.readableBytesView), body: Array(body.readableBytesView))
    }
}
