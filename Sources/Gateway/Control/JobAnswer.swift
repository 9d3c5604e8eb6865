internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// A job as JSON. What the model answered is spliced in as it was kept.
enum JobAnswer {
    /// The short form of `GET /status/{id}`.
    static func status(_ row: JobRow) -> Response {
        var body = ByteBuffer()
        body.writeStaticString("{")
        write("request_id", row.id.publicText, to: &body)
        body.writeStaticString(",")
        write("status", row.state.rawValue, to: &body)
        writeOutcome(row, to: &body)
        body.writeStaticString(",")
        write("created_at", row.createdAt.description, to: &body)
        body.writeStaticString(",")
        write("completed_at", row.endedAt?.description, to: &body)
        body.writeStaticString("}")
        return response(body)
    }

    static func full(_ row: JobRow) -> Response {
        var body = ByteBuffer()
        body.writeStaticString("{\"object\":\"job\",")
        let texts: [(StaticString, String?)] = [
            ("id", row.id.publicText), ("request_id", row.id.publicText), ("status", row.state.rawValue),
            ("model", row.model), ("operation", row.operation), ("created_at", row.createdAt.description),
            ("run_at", row.runAt.description), ("started_at", row.startedAt?.description),
            ("completed_at", row.endedAt?.description), ("expires_at", row.expiresAt?.description),
            ("batch_id", row.batchID?.description), ("custom_id", row.customID),
        ]
        for (name, value) in texts {
            write(name, value, to: &body)
            body.writeStaticString(",")
        }
        body.writeStaticString("\"priority\":")
        body.writeDecimal(Int64(row.priority))
        body.writeStaticString(",\"attempts\":")
        body.writeDecimal(Int64(row.attempt))
        writeOutcome(row, to: &body)
        body.writeStaticString("}")
        return response(body)
    }

    static func response(_ body: ByteBuffer) -> Response {
        Response(status: .ok, headers: [.contentType: "application/json"], body: .init(byteBuffer: body))
    }

    private static func writeOutcome(_ row: JobRow, to body: inout ByteBuffer) {
        body.writeStaticString(",\"result\":")
        if row.state == .completed, let answer = row.answer {
            body.writeBytes(answer)
        } else {
            body.writeStaticString("null")
        }
        body.writeStaticString(",\"error\":")
        guard row.state == .failed, let code = row.errorCode else {
            body.writeStaticString("null")
            return
        }
        body.writeStaticString("{")
        write("code", code, to: &body)
        body.writeStaticString(",")
        write("message", FailureCode(rawValue: code)?.title ?? "The request failed", to: &body)
        body.writeStaticString("}")
    }

    private static func write(_ name: StaticString, _ value: String?, to body: inout ByteBuffer) {
        body.writeStaticString("\"")
        body.writeStaticString(name)
        body.writeStaticString("\":")
        if let value { body.writeJSONString(value) } else { body.writeStaticString("null") }
    }
}
