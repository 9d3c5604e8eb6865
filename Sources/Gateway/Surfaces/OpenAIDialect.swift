internal import Domain
internal import NIOCore

/// How a request of the OpenAI API goes on to a worker that speaks it, and how its answer is read.
enum OpenAIDialect {
    static func path(_ surface: Surface) -> String {
        switch surface {
        case .chatCompletions, .predict: "/v1/chat/completions"
        case .completions: "/v1/completions"
        case .embeddings: "/v1/embeddings"
        }
    }

    /// The caller's own bytes with what the worker has to know besides: its own name of the model, a bound of the answer where the caller
    /// named none, and that a stream ends with its usage, which is what it is charged by.
    static func body(_ request: OpenAIRequest, model: String, profile: ModelProfile) -> ByteBuffer {
        var edits = JSONEdits(request.tape)
        if request.model != model { edits.replace(request.modelValue, with: "\"\(model)\"") }
        if let tokens = request.impliedMaximumTokens(profile), tokens > 0 { edits.insert("\"max_tokens\":\(tokens)") }
        if request.isStreaming {
            // The second is understood by some workers, which then say with each piece what was used so far.
            if let options = request.streamOptions {
                if let flag = request.tape.member("include_usage", of: options) {
                    edits.replace(flag, with: "true")
                } else {
                    edits.insert("\"include_usage\":true", into: options)
                }
                if request.tape.member("continuous_usage_stats", of: options) == nil {
                    edits.insert("\"continuous_usage_stats\":true", into: options)
                }
            } else {
                edits.insert("\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true}")
            }
        }
        return edits.apply()
    }

    /// - Returns: `nil` for anything that is not a usable answer; the worker is not trusted.
    static func read(_ body: ByteBuffer, surface: Surface, model: String) -> WorkerReading? {
        guard let tape = try? JSONTape(body), tape.kind(tape.root) == .object,
            let content = tape.member(surface == .embeddings ? "data" : "choices", of: tape.root),
            tape.kind(content) == .array, let usage = OpenAIUsage(tape.member("usage", of: tape.root), tape)
        else { return nil }
        var edits = JSONEdits(tape)
        // What the caller asked for, not what the worker calls it: a path of its disk, with some.
        if let name = tape.member("model", of: tape.root) { edits.replace(name, with: "\"\(model)\"") }
        return WorkerReading(
            prediction: edits.apply(), probabilities: nil, version: nil, inputTokens: usage.inputTokens,
            cachedInputTokens: usage.cachedInputTokens, outputTokens: usage.outputTokens)
    }
}

/// What a worker says that it used. `nil` where it says nothing: zero and unknown are different.
struct OpenAIUsage: Sendable, Equatable {
    var inputTokens: Int64?
    var cachedInputTokens: Int64?
    var outputTokens: Int64?

    /// - Returns: `nil` where a count is negative, fractional, no number or beyond 64 bits: what holds it cannot be billed.
    init?(_ value: JSONTape.Value?, _ tape: JSONTape) {
        guard let value, tape.kind(value) != .null else { return }
        guard tape.kind(value) == .object else { return nil }
        func count(_ value: JSONTape.Value?, _ target: inout Int64?) -> Bool {
            guard let value, tape.kind(value) != .null else { return true }
            guard let number = tape.int64(value), number >= 0 else { return false }
            target = number
            return true
        }
        guard count(tape.member("prompt_tokens", of: value), &inputTokens),
            count(tape.member("completion_tokens", of: value), &outputTokens)
        else { return nil }
        guard let details = tape.member("prompt_tokens_details", of: value), tape.kind(details) == .object else {
            return
        }
        guard count(tape.member("cached_tokens", of: details), &cachedInputTokens) else { return nil }
    }
}
