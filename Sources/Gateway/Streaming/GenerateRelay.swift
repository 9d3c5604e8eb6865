internal import HTTPListener
internal import NIOCore

/// Writes the events of `generate_stream`: `{"model_name","model_version","id"?,"text_output","details"?}`.
struct GenerateRelay: Sendable {
    /// Whether the worker sends a completion of the OpenAI API; else it sends such events itself.
    let isCompletion: Bool
    private let head: String
    private let wantsDetails: Bool

    init(_ request: GenerateRequest, version: String, isCompletion: Bool) {
        self.isCompletion = isCompletion
        wantsDetails = request.wantsDetails
        var head = ByteBuffer(staticString: "data: {\"model_name\":")
        head.writeJSONString(request.model)
        head.writeStaticString(",\"model_version\":")
        head.writeJSONString(version)
        if let id = request.id {
            head.writeStaticString(",\"id\":")
            head.writeImmutableBuffer(request.tape.slice(id))
        }
        head.writeStaticString(",\"text_output\":")
        self.head = String(buffer: head)
    }

    /// - Parameters:
    ///   - text: a string of the tape.
    ///   - details: of the worker; passed on where the caller asks for them.
    func write(_ text: JSONTape.Value, _ details: JSONTape.Value?, _ tape: JSONTape, to output: inout ByteBuffer) {
        output.writeString(head)
        output.writeImmutableBuffer(tape.slice(text))
        if wantsDetails, let details, tape.kind(details) == .object {
            output.writeStaticString(",\"details\":")
            output.writeImmutableBuffer(tape.slice(details))
        }
        output.writeStaticString("}\n\n")
    }

    /// The piece of the one answer that there is; why it ends is told with the last of them.
    /// - Parameter counts: whether it is charged, and so is passed on even if it is empty.
    func write(completion choices: JSONTape.Value, counts: Bool, _ tape: JSONTape, to output: inout ByteBuffer) {
        guard let choice = tape.elements(of: choices).first else { return }
        let text = tape.member("text", of: choice).flatMap { tape.kind($0) == .string ? $0 : nil }
        let reason = tape.member("finish_reason", of: choice).flatMap { tape.kind($0) == .string ? $0 : nil }
        let isSaying = text.map { tape.withBytes(of: $0) { !$0.isEmpty } } ?? false
        guard isSaying || counts || wantsDetails && reason != nil else { return }
        output.writeString(head)
        if let text { output.writeImmutableBuffer(tape.slice(text)) } else { output.writeStaticString("\"\"") }
        if wantsDetails, let reason {
            output.writeStaticString(",\"details\":{\"finish_reason\":")
            output.writeImmutableBuffer(tape.slice(reason))
            output.writeStaticString("}")
        }
        output.writeStaticString("}\n\n")
    }

    /// The event that says why an answer stops where it stops.
    func cutEvent() -> String { head + "\"\",\"details\":{\"finish_reason\":\"length\"}}\n\n" }
}

extension OpenAIUsage {
    /// - Parameter value: `{"input_tokens","output_tokens"}`, as workers of the Open Inference Protocol say it.
    /// - Returns: `nil` for counts that cannot be billed.
    init?(generated value: JSONTape.Value?, _ tape: JSONTape) {
        self.init()
        guard let value, tape.kind(value) != .null else { return }
        func count(_ name: StaticString, _ target: inout Int64?) -> Bool {
            guard let value = tape.member(name, of: value), tape.kind(value) != .null else { return true }
            guard let number = tape.int64(value), number >= 0 else { return false }
            target = number
            return true
        }
        guard tape.kind(value) == .object, count("input_tokens", &inputTokens), count("output_tokens", &outputTokens),
            count("cached_input_tokens", &cachedInputTokens)
        else { return nil }
    }
}
