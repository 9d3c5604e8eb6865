internal import HTTPListener
internal import NIOCore

/// What a worker answered to a generate request, in the one form in which it is kept: `{"text_output","details"?}`.
enum GenerateAnswer {
    /// - Returns: `nil` for anything that is not a usable answer; the worker is not trusted.
    static func read(_ body: ByteBuffer, from workerIsOpenAI: Bool, to request: GenerateRequest) -> WorkerReading? {
        guard let tape = try? JSONTape(body), tape.kind(tape.root) == .object else { return nil }
        return workerIsOpenAI ? readCompletion(tape, request) : readGenerate(tape, request)
    }

    private static func readCompletion(_ tape: JSONTape, _ request: GenerateRequest) -> WorkerReading? {
        guard let choices = tape.member("choices", of: tape.root), let first = tape.elements(of: choices).first,
            let text = tape.member("text", of: first), tape.kind(text) == .string,
            let usage = OpenAIUsage(tape.member("usage", of: tape.root), tape)
        else { return nil }
        var kept = begin(text, tape)
        if request.wantsDetails {
            kept.writeStaticString(",\"details\":{\"finish_reason\":")
            let reason = tape.member("finish_reason", of: first)
            kept.writeImmutableBuffer(reason.map { tape.slice($0) } ?? ByteBuffer(string: "null"))
            kept.writeStaticString(",\"logprobs\":")
            let logprobs = tape.member("logprobs", of: first)
            kept.writeImmutableBuffer(logprobs.map { tape.slice($0) } ?? ByteBuffer(string: "null"))
            kept.writeStaticString("}")
        }
        kept.writeStaticString("}")
        return WorkerReading(
            prediction: kept, probabilities: nil, version: nil, inputTokens: usage.inputTokens,
            cachedInputTokens: usage.cachedInputTokens, outputTokens: usage.outputTokens)
    }

    private static func readGenerate(_ tape: JSONTape, _ request: GenerateRequest) -> WorkerReading? {
        guard let text = tape.member("text_output", of: tape.root), tape.kind(text) == .string else { return nil }
        var kept = begin(text, tape)
        if request.wantsDetails, let details = tape.member("details", of: tape.root), tape.kind(details) == .object {
            kept.writeStaticString(",\"details\":")
            kept.writeImmutableBuffer(tape.slice(details))
        }
        kept.writeStaticString("}")
        let counts = tape.member("usage", of: tape.root) ?? tape.member("parameters", of: tape.root)
        return WorkerDialect.reading(
            tape, prediction: kept, probabilities: nil,
            version: tape.member("model_version", of: tape.root).flatMap { tape.string($0) }, counts: counts)
    }

    private static func begin(_ text: JSONTape.Value, _ tape: JSONTape) -> ByteBuffer {
        var kept = ByteBuffer()
        kept.reserveCapacity(tape.bytes.readableBytes)
        kept.writeStaticString("{\"text_output\":")
        kept.writeImmutableBuffer(tape.slice(text))
        return kept
    }
}
