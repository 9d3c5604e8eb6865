internal import Domain
internal import NIOCore

/// A body of the OpenAI API, read only as far as metering and routing need it. Everything else in it, fields that nobody has heard of
/// included, goes on to the worker as it stands (https://platform.openai.com/docs/api-reference).
struct OpenAIRequest: Sendable {
    /// Answers to one request, inputs of one request, at most.
    static let choiceLimit: Int64 = 128
    static let inputLimit = 2_048
    /// More than any model makes.
    private static let tokenLimit: Int64 = 1 << 32

    let surface: Surface
    let model: String
    let tape: JSONTape
    let isStreaming: Bool
    /// The caller wants to be told the usage at the end of the stream.
    let includesUsage: Bool
    /// `max_completion_tokens` or `max_tokens`; `nil` where the caller leaves it to us.
    let maximumTokens: Int64?
    /// Inputs of an embedding or prompts of a completion.
    let inputCount: Int64
    /// Answers that are made for each input, also those that are made and thrown away.
    private let choicesPerInput: Int64
    private let temperature: JSONTape.Value?
    private let question: JSONTape.Value?
    let modelValue: JSONTape.Value
    let streamOptions: JSONTape.Value?

    init(_ body: ByteBuffer, for surface: Surface) throws(Refusal) {
        let tape: JSONTape
        do throws(JSONTape.Failure) {
            tape = try JSONTape(body)
        } catch {
            throw Refusal(error)
        }
        guard tape.kind(tape.root) == .object else {
            throw Refusal(.invalidJSON, "The body must be a JSON object.")
        }
        let members = Members(tape)
        guard let modelValue = members.model, let model = tape.string(modelValue) else {
            throw .invalid(
                "/model", "must be the name of a model", fix: "Send \"model\": \"<name>\"; GET /v1/models lists them.")
        }
        guard ModelName.isValid(model.utf8) else {
            throw Refusal(.modelNotFound, "There is no model of that name. GET /v1/models lists the models.")
        }
        self.surface = surface
        self.tape = tape
        self.model = model
        self.modelValue = modelValue
        temperature = members.temperature
        question = members.messages ?? members.prompt ?? members.input
        isStreaming = surface == .embeddings ? false : try members.flag(members.stream, "stream", tape)
        if let options = members.streamOptions, tape.kind(options) != .null {
            guard tape.kind(options) == .object, isStreaming else {
                throw .invalid(
                    "/stream_options", "is an object, and goes with stream: true alone",
                    fix: "Leave it out or set stream.")
            }
            streamOptions = options
            includesUsage = try members.flag(
                tape.member("include_usage", of: options), "stream_options/include_usage", tape)
        } else {
            streamOptions = nil
            includesUsage = false
        }
        let newer = try members.count(members.maximumCompletionTokens, "max_completion_tokens", tape)
        let older = try members.count(members.maximumTokens, "max_tokens", tape)
        if let newer, let older, newer != older {
            throw .invalid(
                "/max_tokens", "says otherwise than max_completion_tokens", fix: "Send max_completion_tokens alone.")
        }
        maximumTokens = surface == .embeddings ? nil : newer ?? older
        let choices = try members.count(members.choices, "n", tape) ?? 1
        let candidates = surface == .completions ? try members.count(members.bestOf, "best_of", tape) ?? 1 : 1
        guard max(choices, candidates) <= Self.choiceLimit else {
            throw .invalid("/n", "must be 1 to \(Self.choiceLimit)", fix: "Ask for fewer answers.")
        }
        choicesPerInput = max(choices, candidates)
        inputCount = try Self.countInputs(members, of: surface, tape)
    }

    /// Bytes of all texts of the conversation or the prompt, the names of their fields left out.
    var textByteCount: Int64 {
        guard let question else { return 0 }
        var count: Int64 = 0
        tape.forEachText(in: question) { count += Int64($0) }
        return count
    }

    /// The most tokens that the answer can have.
    func outputBound(_ profile: ModelProfile) -> Int64 {
        guard surface != .embeddings else { return 0 }
        let each = maximumTokens ?? profile.maximumOutputTokens
        let all = each.multipliedReportingOverflow(by: choicesPerInput * inputCount)
        return all.overflow ? .max : all.partialValue
    }

    /// What a worker has to be told where the caller does not say it: it must not go on behind what was held.
    func impliedMaximumTokens(_ profile: ModelProfile) -> Int64? {
        surface == .embeddings || maximumTokens != nil ? nil : profile.maximumOutputTokens
    }

    func check(against profile: ModelProfile) throws(Refusal) {
        guard let maximumTokens, maximumTokens > profile.maximumOutputTokens else { return }
        throw .invalid(
            "/max_tokens",
            "is \(maximumTokens); the model \(model) answers with at most \(profile.maximumOutputTokens) tokens",
            fix: "Ask for at most \(profile.maximumOutputTokens), or leave it out.")
    }

    /// Embeddings follow from their input. Generated text does where its temperature is zero; else the model's policy and the caller decide.
    func isCacheable(_ policy: CachePolicy, isAskedFor: Bool) -> Bool {
        if isStreaming { return false }
        if surface == .embeddings { return true }
        return policy.permitsGeneration(temperatureMillis: isGreedy ? 0 : nil, isAskedFor: isAskedFor)
    }

    /// Whether the temperature is zero, in whatever way it is written.
    private var isGreedy: Bool {
        guard let temperature, tape.kind(temperature) == .number else { return false }
        return tape.withBytes(of: temperature) { bytes in
            for byte in bytes {
                if byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E") { break }
                if (0x31...0x39).contains(byte) { return false }
            }
            return true
        }
    }

    private static func countInputs(_ members: Members, of surface: Surface, _ tape: JSONTape) throws(Refusal) -> Int64
    {
        switch surface {
        case .chatCompletions:
            guard let messages = members.messages, tape.kind(messages) == .array, !tape.elements(of: messages).isEmpty
            else {
                throw .invalid(
                    "/messages", "must be an array of at least one message",
                    fix: "Send [{\"role\": \"user\", \"content\": \"…\"}].")
            }
            return 1
        case .completions:
            return try count(members.prompt, "/prompt", tape)
        case .embeddings:
            return try count(members.input, "/input", tape)
        case .predict: return 1
        }
    }

    /// A text, a list of tokens, or a list of either.
    private static func count(_ value: JSONTape.Value?, _ location: String, _ tape: JSONTape) throws(Refusal) -> Int64 {
        let refusal = Refusal.invalid(
            location, "must be a text, a list of texts, a list of tokens or a list of those",
            fix: "Send one text, for example.")
        guard let value else { throw refusal }
        switch tape.kind(value) {
        case .string: return 1
        case .array:
            let elements = tape.elements(of: value)
            guard let first = elements.first else { throw refusal }
            let kind = tape.kind(first)
            guard [.string, .number, .array].contains(kind), elements.allSatisfy({ tape.kind($0) == kind }) else {
                throw refusal
            }
            if kind == .number { return 1 }
            guard elements.count <= inputLimit else {
                throw .invalid(location, "has more than \(inputLimit) inputs", fix: "Send several requests.")
            }
            return Int64(elements.count)
        default: throw refusal
        }
    }

    private struct Members {
        var model: JSONTape.Value?
        var stream: JSONTape.Value?
        var streamOptions: JSONTape.Value?
        var maximumTokens: JSONTape.Value?
        var maximumCompletionTokens: JSONTape.Value?
        var choices: JSONTape.Value?
        var bestOf: JSONTape.Value?
        var temperature: JSONTape.Value?
        var messages: JSONTape.Value?
        var prompt: JSONTape.Value?
        var input: JSONTape.Value?

        init(_ tape: JSONTape) {
            tape.forEachMember(of: tape.root) { key, value in
                if tape.matches(key, "model") {
                    model = value
                } else if tape.matches(key, "messages") {
                    messages = value
                } else if tape.matches(key, "prompt") {
                    prompt = value
                } else if tape.matches(key, "input") {
                    input = value
                } else if tape.matches(key, "stream") {
                    stream = value
                } else if tape.matches(key, "stream_options") {
                    streamOptions = value
                } else if tape.matches(key, "max_tokens") {
                    maximumTokens = value
                } else if tape.matches(key, "max_completion_tokens") {
                    maximumCompletionTokens = value
                } else if tape.matches(key, "n") {
                    choices = value
                } else if tape.matches(key, "best_of") {
                    bestOf = value
                } else if tape.matches(key, "temperature") {
                    temperature = value
                }
            }
        }

        /// `null` is as good as nothing in this API.
        func flag(_ value: JSONTape.Value?, _ name: String, _ tape: JSONTape) throws(Refusal) -> Bool {
            switch value.map({ tape.kind($0) }) {
            case nil, .null?, .false?: return false
            case .true?: return true
            default: throw .invalid("/\(name)", "must be true or false", fix: "Send true, false, or nothing.")
            }
        }

        func count(_ value: JSONTape.Value?, _ name: String, _ tape: JSONTape) throws(Refusal) -> Int64? {
            guard let value, tape.kind(value) != .null else { return nil }
            guard let number = tape.int64(value), (1...OpenAIRequest.tokenLimit).contains(number) else {
                throw .invalid("/\(name)", "must be a whole number from 1 on", fix: "Send 256, for example.")
            }
            return number
        }
    }
}
