internal import Domain
internal import NIOCore

/// Reads a worker's stream of the OpenAI API and says what of it goes on to the caller and what it counts as. A value: bytes in, a step out.
///
/// A worker's word about usage is taken where it gives one. Until then a piece counts one token for each answer that it goes on with, which
/// is what workers send; whoever packs several tokens into one piece says so in its usage.
struct StreamRelay {
    /// What comes of some bytes.
    struct Step {
        /// Whole events for the caller.
        var forward = ByteBuffer()
        /// Output tokens of what is forwarded.
        var tokens: Int64 = 0
        /// Bytes of the text in it, as it is written.
        var textBytes: Int64 = 0
        var end: End?
    }

    enum End: Equatable {
        case finished
        /// More than was held has come; the rest is not passed on.
        case cutAtBound
        /// The worker says that it failed, or sends what is no event of this API.
        case failed(cause: String)
    }

    /// Of one event, and far more than one has.
    static let eventByteLimit = 262_144

    /// Of a stream of the Open Inference Protocol.
    private let generation: GenerateRelay?
    private let surface: Surface
    private let model: String
    private let outputBound: Int64
    private let includesUsage: Bool
    private var events = ServerSentEvents(byteLimit: eventByteLimit)
    private(set) var reported = OpenAIUsage()
    /// As counted piece by piece.
    private(set) var countedTokens: Int64 = 0
    /// Of all text that was forwarded.
    private(set) var textBytes: Int64 = 0
    private(set) var end: End?
    /// From the first event, so that what is added to the stream belongs to it.
    private(set) var identity = "\"id\":\"\",\"created\":0"
    private var hasIdentity = false
    private var text: StreamText?

    /// - Parameters:
    ///   - outputBound: tokens that were held for the answer.
    ///   - keepsText: whether the whole answer is wanted at the end.
    init(_ request: OpenAIRequest, outputBound: Int64, keepsText: Bool) {
        surface = request.surface
        model = request.model
        self.outputBound = outputBound
        includesUsage = request.includesUsage
        text = keepsText ? StreamText() : nil
        generation = nil
    }

    /// - Parameters:
    ///   - workerProtocol: of the worker that sends the stream.
    ///   - version: what the caller is told.
    init(
        _ request: GenerateRequest, from workerProtocol: WorkerProtocol, version: String, outputBound: Int64,
        keepsText: Bool
    ) {
        surface = .completions
        model = request.model
        self.outputBound = outputBound
        includesUsage = false
        text = keepsText ? StreamText() : nil
        generation = GenerateRelay(request, version: version, isCompletion: workerProtocol == .openai)
    }

    /// Output tokens that the worker has made, as far as is known. At the end of its answer its own word counts.
    var generatedTokens: Int64 { end == .finished ? reported.outputTokens ?? countedTokens : countedTokens }

    mutating func take(_ bytes: ByteBuffer) -> Step {
        var step = Step()
        guard end == nil else { return step }
        let arrived: [ByteBuffer]
        do throws(ServerSentEvents.Failure) {
            arrived = try events.take(bytes)
        } catch {
            step.end = .failed(cause: "an event of more than \(Self.eventByteLimit) bytes")
            end = step.end
            return step
        }
        for event in arrived where end == nil { take(event: event, &step) }
        step.end = end
        return step
    }

    private mutating func take(event: ByteBuffer, _ step: inout Step) {
        if event.withUnsafeReadableBytes({ $0.elementsEqual("[DONE]".utf8) }) {
            end = .finished
            return
        }
        guard let tape = try? JSONTape(event), tape.kind(tape.root) == .object else {
            end = .failed(cause: "an event that is no JSON object")
            return
        }
        guard tape.member("error", of: tape.root).map({ tape.kind($0) == .null }) ?? true else {
            end = .failed(cause: "the worker sent an error")
            return
        }
        if let generation, !generation.isCompletion { return take(generated: tape, generation, &step) }
        let usageValue = tape.member("usage", of: tape.root)
        guard let usage = OpenAIUsage(usageValue, tape) else {
            end = .failed(cause: "usage that cannot be billed")
            return
        }
        guard let choices = tape.member("choices", of: tape.root), tape.kind(choices) == .array else {
            end = .failed(cause: "an event without choices")
            return
        }
        let continued = tokens(of: choices, tape)
        reported.merge(usage)
        // The last event: usage alone. The caller gets one of ours, after the charge.
        if tape.elements(of: choices).isEmpty { return }
        // A worker's count is of the whole stream so far, whether it gives one with each piece or with the last alone.
        let tokens = usage.outputTokens.map { max(0, $0 - countedTokens) } ?? continued
        guard tokens <= outputBound - countedTokens else {
            end = .cutAtBound
            return
        }
        countedTokens += tokens
        count(textOf: choices, tape, &step)
        remember(tape)
        text?.take(choices, tape)
        step.tokens += tokens
        if let generation {
            generation.write(completion: choices, counts: tokens > 0, tape, to: &step.forward)
        } else {
            write(tape, usageValue, to: &step.forward)
        }
    }

    /// An event of `generate_stream`. What is in its `usage` is said of the stream so far.
    private mutating func take(generated tape: JSONTape, _ generation: GenerateRelay, _ step: inout Step) {
        guard let piece = tape.member("text_output", of: tape.root), let string = tape.string(piece) else {
            end = .failed(cause: "an event without text_output")
            return
        }
        guard let usage = OpenAIUsage(generated: tape.member("usage", of: tape.root), tape) else {
            end = .failed(cause: "usage that cannot be billed")
            return
        }
        reported.merge(usage)
        let tokens = usage.outputTokens.map { max(0, $0 - countedTokens) } ?? (string.isEmpty ? 0 : 1)
        guard tokens <= outputBound - countedTokens else {
            end = .cutAtBound
            return
        }
        countedTokens += tokens
        textBytes += Int64(string.utf8.count)
        step.textBytes += Int64(string.utf8.count)
        text?.take(text: string)
        step.tokens += tokens
        generation.write(piece, tape.member("details", of: tape.root), tape, to: &step.forward)
    }

    /// The worker's answer is whole. Only a stream of `generate_stream` ends so: the other one has a last word.
    /// - Returns: whether the stream has ended as it should.
    mutating func takeEnd() -> Bool {
        guard let generation, !generation.isCompletion, end == nil else { return false }
        end = .finished
        return true
    }

    /// Answers that the event goes on with.
    private func tokens(of choices: JSONTape.Value, _ tape: JSONTape) -> Int64 {
        var count: Int64 = 0
        tape.forEachElement(of: choices) { choice in
            if surface == .completions {
                if tape.hasContent(tape.member("text", of: choice)) { count += 1 }
            } else if let delta = tape.member("delta", of: choice) {
                var goesOn = false
                tape.forEachMember(of: delta) { key, value in
                    // Whatever a worker calls its text: reasoning, a refusal, a call of a tool.
                    if !tape.matches(key, "role"), tape.hasContent(value) { goesOn = true }
                }
                if goesOn { count += 1 }
            }
        }
        return count
    }

    /// Whatever a worker calls its text.
    private mutating func count(textOf choices: JSONTape.Value, _ tape: JSONTape, _ step: inout Step) {
        var bytes: Int64 = 0
        tape.forEachElement(of: choices) { choice in
            if let text = tape.member("text", of: choice) { tape.forEachText(in: text) { bytes += Int64($0) } }
            guard let delta = tape.member("delta", of: choice) else { return }
            tape.forEachMember(of: delta) { key, value in
                if !tape.matches(key, "role") { tape.forEachText(in: value) { bytes += Int64($0) } }
            }
        }
        textBytes += bytes
        step.textBytes += bytes
    }

    private mutating func remember(_ tape: JSONTape) {
        guard !hasIdentity else { return }
        hasIdentity = true
        let id = tape.member("id", of: tape.root).flatMap { tape.kind($0) == .string ? tape.slice($0) : nil }
        let created = tape.member("created", of: tape.root).flatMap { tape.int64($0) } ?? 0
        let name = id.map { String(buffer: $0) } ?? "\"\""
        identity = "\"id\":\(name),\"created\":\(created)"
    }

    /// The event as it came, but with the name that was asked for, and without usage: the last event has what was charged.
    private func write(_ tape: JSONTape, _ usage: JSONTape.Value?, to output: inout ByteBuffer) {
        var edits = JSONEdits(tape)
        if let name = tape.member("model", of: tape.root) { edits.replace(name, with: "\"\(model)\"") }
        if let usage {
            if tape.kind(usage) != .null { edits.replace(usage, with: "null") }
        } else if includesUsage {
            edits.insert("\"usage\":null")
        }
        output.writeStaticString("data: ")
        output.writeImmutableBuffer(edits.apply())
        output.writeStaticString("\n\n")
    }

    /// What is kept of the answer: as the worker would have sent it in one piece.
    func wholeAnswer(_ usage: Usage) -> ByteBuffer? {
        if generation != nil { return text?.generated() }
        return text?.answer(surface: surface, identity: identity, model: model, usage: usage)
    }

    private var object: String { surface == .completions ? "text_completion" : "chat.completion.chunk" }

    /// The event that says why an answer stops where it stops.
    func cutEvent() -> String {
        if let generation { return generation.cutEvent() }
        let body = surface == .completions ? "\"text\":\"\"" : "\"delta\":{}"
        return "data: {\(identity),\"object\":\"\(object)\",\"model\":\"\(model)\",\"choices\":[{\"index\":0,\(body),"
            + "\"finish_reason\":\"length\"}],\"x_weir\":{\"finish_detail\":\"quota\"}}\n\n"
    }

    /// The event with what was charged, in that API's place for it.
    func usageEvent(
        _ usage: Usage, cost: Micros?, currency: String, priceVersion: String, receipt: [UInt8]? = nil
    ) -> String {
        var members: [String] = []
        if let cost {
            members.append(
                "\"cost_micros\":\(cost.value),\"currency\":\"\(currency)\",\"price_version\":\"\(priceVersion)\"")
        }
        // Base64url needs no escape.
        if let receipt { members.append("\"receipt\":\"\(String(decoding: receipt, as: UTF8.self))\"") }
        let extra = members.isEmpty ? "" : ",\"x_weir\":{\(members.joined(separator: ","))}"
        return "data: {\(identity),\"object\":\"\(object)\",\"model\":\"\(model)\",\"choices\":[],"
            + "\"usage\":\(usage.openAIText)\(extra)}\n\n"
    }
}

extension JSONTape {
    /// Whether a value says something: not null, not empty.
    fileprivate func hasContent(_ value: Value?) -> Bool {
        guard let value else { return false }
        switch kind(value) {
        case .null, .false, .true: return false
        case .string: return withBytes(of: value) { !$0.isEmpty }
        case .number: return false
        case .array, .object: return tokens[value.index].next != Int32(value.index + 1)
        }
    }
}

extension OpenAIUsage {
    init() {}

    /// A later word replaces an earlier one; what it leaves out stays.
    mutating func merge(_ later: OpenAIUsage) {
        if let count = later.inputTokens { inputTokens = count }
        if let count = later.cachedInputTokens { cachedInputTokens = count }
        if let count = later.outputTokens { outputTokens = count }
    }
}

extension Usage {
    /// As the OpenAI API writes it.
    var openAIText: String {
        "{\"prompt_tokens\":\(inputTokens),\"completion_tokens\":\(outputTokens),\"total_tokens\":\(totalTokens),"
            + "\"prompt_tokens_details\":{\"cached_tokens\":\(cachedInputTokens)}}"
    }
}
