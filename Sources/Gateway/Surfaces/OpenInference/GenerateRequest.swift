internal import Domain
internal import HTTPListener
internal import NIOCore

/// The body of `POST /v2/models/{model}[/versions/{version}]/generate` (Open Inference Protocol, the generate extension):
/// `{"id"?, "text_input", "parameters"?}`.
struct GenerateRequest: Sendable {
    /// More than any model makes.
    private static let tokenLimit: Int64 = 1 << 32

    let model: String
    let version: String?
    let tape: JSONTape
    /// Echoed in the answer.
    let id: JSONTape.Value?
    let text: JSONTape.Value
    /// Those that go on to the worker as they stand; `stop` may be a list of texts.
    let parameters: [TensorParameters.Member]
    /// `max_tokens`; `nil` where the caller leaves it to us.
    let maximumTokens: Int64?
    /// Whether the caller wants to be told why the answer ended.
    let wantsDetails: Bool
    /// Whether the answer is to be sent piece by piece, as it comes into being: `generate_stream`.
    let isStreaming: Bool

    init(_ body: ByteBuffer, model: String, version: String?, isStreaming: Bool = false) throws(Refusal) {
        self.isStreaming = isStreaming
        self.model = model
        self.version = version
        do throws(JSONTape.Failure) {
            tape = try JSONTape(body)
        } catch {
            throw Refusal(error)
        }
        guard tape.kind(tape.root) == .object else {
            throw Refusal(.invalidJSON, "The body must be a JSON object with text_input.")
        }
        do throws(TensorFault) {
            let members = try Members(tape)
            id = members.id
            text = members.text
            let read = try Parameters(members.parameters, of: tape)
            parameters = read.passed
            maximumTokens = read.maximumTokens
            wantsDetails = read.wantsDetails
        } catch {
            throw .invalid(
                error.location, error.message,
                fix: "Send {\"text_input\": \"…\", \"parameters\": {\"max_tokens\": 64}}.")
        }
    }

    /// The most tokens that the answer can have.
    func outputBound(_ profile: ModelProfile) -> Int64 { maximumTokens ?? profile.maximumOutputTokens }

    func check(against profile: ModelProfile) throws(Refusal) {
        guard let maximumTokens, maximumTokens > profile.maximumOutputTokens else { return }
        throw .invalid(
            "/parameters/max_tokens",
            "is \(maximumTokens); the model \(model) answers with at most \(profile.maximumOutputTokens) tokens",
            fix: "Ask for at most \(profile.maximumOutputTokens), or leave it out.")
    }

    /// Generated text follows from its input where its temperature is zero; else the model's policy and the caller decide.
    func isCacheable(_ policy: CachePolicy, isAskedFor: Bool) -> Bool {
        !isStreaming && policy.permitsGeneration(temperatureMillis: isGreedy ? 0 : nil, isAskedFor: isAskedFor)
    }

    private var isGreedy: Bool {
        guard let temperature = parameters.first(where: { tape.matches($0.name, "temperature") })?.value else {
            return false
        }
        return tape.withBytes(of: temperature) { ElementText.double($0) == 0 }
    }

    /// Writes what is asked of the model, beginning with a comma, with the bound of the answer.
    func writeQuestion(_ profile: ModelProfile?, to buffer: inout ByteBuffer) {
        buffer.writeStaticString(",\"text_input\":")
        buffer.writeImmutableBuffer(tape.slice(text))
        buffer.writeStaticString(",\"parameters\":{")
        var isFirst = true
        if let tokens = maximumTokens ?? profile?.maximumOutputTokens, tokens > 0 {
            buffer.writeStaticString("\"max_tokens\":")
            buffer.writeDecimal(tokens)
            isFirst = false
        }
        if wantsDetails {
            buffer.writeStaticString(isFirst ? "\"details\":true" : ",\"details\":true")
            isFirst = false
        }
        for member in parameters {
            if !isFirst { buffer.writeStaticString(",") }
            isFirst = false
            writeMember(member, to: &buffer)
        }
        buffer.writeStaticString("}")
    }

    /// The body for a worker of the Open Inference Protocol. It is told our id; the caller's own is only echoed.
    func writeGenerate(requestID: RequestID, profile: ModelProfile, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"id\":\"")
        buffer.writeString(requestID.publicText)
        buffer.writeStaticString("\"")
        writeQuestion(profile, to: &buffer)
        buffer.writeStaticString("}")
    }

    /// The body for a worker of the OpenAI API: the completion of a text. Parameters have the same names there.
    func writeCompletion(model: String, profile: ModelProfile, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"model\":\"")
        buffer.writeString(model)
        buffer.writeStaticString("\",\"prompt\":")
        buffer.writeImmutableBuffer(tape.slice(text))
        let tokens = outputBound(profile)
        if tokens > 0 {
            buffer.writeStaticString(",\"max_tokens\":")
            buffer.writeDecimal(tokens)
        }
        for member in parameters {
            buffer.writeStaticString(",")
            writeMember(member, to: &buffer)
        }
        if isStreaming {
            buffer.writeStaticString(
                ",\"stream\":true,\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":true}")
        }
        buffer.writeStaticString("}")
    }

    private func writeMember(_ member: TensorParameters.Member, to buffer: inout ByteBuffer) {
        buffer.writeImmutableBuffer(tape.slice(member.name))
        buffer.writeStaticString(":")
        buffer.writeImmutableBuffer(tape.slice(member.value))
    }

    private struct Members {
        let id: JSONTape.Value?
        let text: JSONTape.Value
        let parameters: JSONTape.Value?

        init(_ tape: JSONTape) throws(TensorFault) {
            var (found, id, parameters): (JSONTape.Value?, JSONTape.Value?, JSONTape.Value?)
            var fault: TensorFault?
            tape.forEachMember(of: tape.root) { key, value in
                if tape.matches(key, "text_input") {
                    found = value
                } else if tape.matches(key, "parameters") {
                    parameters = tape.kind(value) == .null ? nil : value
                } else if tape.matches(key, "id") {
                    switch tape.kind(value) {
                    case .string: id = value
                    case .null: break
                    default: fault = TensorFault(location: "/id", message: "must be a string")
                    }
                } else {
                    // The name is the caller's own text, cut so that an answer cannot be made large with it.
                    let name = String((tape.string(key) ?? "").unicodeScalars.prefix(64).map { Character($0) })
                    fault = TensorFault(location: "/\(name)", message: "is not a field of this request")
                }
            }
            if let fault { throw fault }
            if let id, tape.withBytes(of: id, { $0.count }) > 1_024 {
                throw TensorFault(location: "/id", message: "is longer than 1,024 bytes")
            }
            guard let text = found, tape.kind(text) == .string else {
                throw TensorFault(location: "/text_input", message: "must be a string")
            }
            (self.id, self.text, self.parameters) = (id, text, parameters)
        }
    }

    private struct Parameters {
        var passed: [TensorParameters.Member] = []
        var maximumTokens: Int64?
        var wantsDetails = false

        /// What would change where the request goes, how much is answered or how: these are ours to say.
        private static let forbidden: [StaticString] = [
            "model", "prompt", "stream", "stream_options", "n", "best_of", "text_input", "api_base", "base_url", "url",
            "callback", "headers", "priority", "request_id", "prompt_embeds", "echo", "n_cmpl", "n_predict",
            "num_predict",
            "max_new_tokens", "max_gen_len", "sequence_id", "shared_memory_region",
        ]

        init(_ value: JSONTape.Value?, of tape: JSONTape) throws(TensorFault) {
            guard let value else { return }
            guard tape.kind(value) == .object else {
                throw TensorFault(location: "/parameters", message: "must be an object")
            }
            var fault: TensorFault?
            tape.forEachMember(of: value) { name, value in
                if let wrong = take(name, value, tape) { fault = wrong }
            }
            if let fault { throw fault }
        }

        private mutating func take(_ name: JSONTape.Value, _ value: JSONTape.Value, _ tape: JSONTape) -> TensorFault? {
            if tape.matches(name, "max_tokens") {
                guard let tokens = tape.int64(value), (1...GenerateRequest.tokenLimit).contains(tokens) else {
                    return TensorFault(location: "/parameters/max_tokens", message: "must be a whole number from 1 on")
                }
                maximumTokens = tokens
                return nil
            }
            if tape.matches(name, "details") {
                guard tape.kind(value) == .true || tape.kind(value) == .false else {
                    return TensorFault(location: "/parameters/details", message: "must be true or false")
                }
                wantsDetails = tape.kind(value) == .true
                return nil
            }
            if let known = Self.forbidden.first(where: { tape.matches(name, $0) }) {
                return TensorFault(location: "/parameters/\(known)", message: "is not accepted; leave it out")
            }
            switch tape.kind(value) {
            case .string, .number, .true, .false: break
            case .array
            where tape.matches(name, "stop") && tape.elements(of: value).allSatisfy { tape.kind($0) == .string }:
                break
            default:
                return TensorFault(
                    location: "/parameters",
                    message: "must hold strings, numbers and booleans only, and under stop a list of strings")
            }
            passed.append(TensorParameters.Member(name: name, value: value))
            return nil
        }
    }
}
