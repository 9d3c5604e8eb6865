import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Streams") struct StreamTests {
    private static let profile = ModelProfile(
        name: "assistant", version: "1", featureCount: nil, fixedTokensPerRequest: 5, maximumOutputTokens: 64)

    private static func piece(_ text: String, more: String = "") -> String {
        "data: {\"id\":\"c-1\",\"created\":7,\"model\":\"/disk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\(text)\"}}]\(more)}\n\n"
    }

    private static let role =
        "data: {\"id\":\"c-1\",\"created\":7,\"model\":\"/disk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n"
    private static let usage =
        "data: {\"id\":\"c-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n"

    private func relay(bound: Int64 = 64, includesUsage: Bool = false, keepsText: Bool = false) throws -> StreamRelay {
        let options = includesUsage ? ",\"stream_options\":{\"include_usage\":true}" : ""
        let body = "{\"model\":\"assistant\",\"messages\":[{\"content\":\"abcd\"}],\"stream\":true\(options)}"
        return StreamRelay(
            try OpenAIRequest(ByteBuffer(string: body), for: .chatCompletions), outputBound: bound, keepsText: keepsText
        )
    }

    @Test("events are found wherever the bytes are cut")
    func everyCut() throws {
        let whole =
            Self.role + ": ping\r\n\r\n" + Self.piece("a") + Self.piece("b").replacing("\n\n", with: "\r\n\r\n")
            + "event: x\ndata:" + Self.usage.dropFirst(5) + "data: [DONE]\n\n"
        let bytes = Array(whole.utf8)
        var expected: String?
        for cut in 0...bytes.count {
            var relay = try relay()
            let first = relay.take(ByteBuffer(bytes: bytes[..<cut]))
            let second = relay.take(ByteBuffer(bytes: bytes[cut...]))
            let text = String(buffer: first.forward) + String(buffer: second.forward)
            #expect(first.tokens + second.tokens == 2 && relay.end == .finished, "cut at \(cut)")
            #expect(relay.generatedTokens == 3 && relay.reported.inputTokens == 9)
            if let expected { #expect(text == expected, "cut at \(cut)") } else { expected = text }
        }
        #expect(expected?.contains("/disk") == false && expected?.contains("usage") == false)
    }

    @Test("a caller that asked for usage sees null until the end")
    func usageIsNull() throws {
        var relay = try relay(includesUsage: true)
        let step = relay.take(
            ByteBuffer(string: Self.piece("a") + Self.piece("b", more: ",\"usage\":{\"completion_tokens\":2}")))
        for event in String(buffer: step.forward).split(separator: "\n\n") { #expect(event.contains("\"usage\":null")) }
    }

    @Test("the bound is never passed, and nothing behind it is forwarded", arguments: 0...4)
    func bound(bound: Int64) throws {
        var relay = try relay(bound: bound)
        let step = relay.take(ByteBuffer(string: (0..<5).map { Self.piece("w\($0)") }.joined()))
        #expect(step.tokens == bound && step.end == .cutAtBound)
        #expect(String(buffer: step.forward).split(separator: "\n\n").count == Int(bound))
    }

    @Test("a worker that counts for itself is believed up to the bound, and never beyond 64 bits")
    func continuousUsage() throws {
        var relay = try relay(bound: 10)
        #expect(
            relay.take(ByteBuffer(string: Self.piece("a", more: ",\"usage\":{\"completion_tokens\":4}"))).tokens == 4)
        #expect(
            relay.take(ByteBuffer(string: Self.piece("b", more: ",\"usage\":{\"completion_tokens\":6}"))).tokens == 2)
        let lie = relay.take(
            ByteBuffer(string: Self.piece("c", more: ",\"usage\":{\"completion_tokens\":9223372036854775807}")))
        #expect(lie.end == .cutAtBound && relay.countedTokens == 6)
    }

    @Test("usage that comes with the last piece alone is of the whole stream")
    func usageAtTheEnd() throws {
        var relay = try relay(bound: 4)
        let text = (0..<3).map { Self.piece("w\($0)") }.joined()
        let last =
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],"
            + "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n"
        let step = relay.take(ByteBuffer(string: text + last + "data: [DONE]\n\n"))
        #expect(step.tokens == 4 && step.end == .finished && relay.generatedTokens == 4)
        #expect(step.textBytes == 6 && relay.textBytes == 6)
    }

    @Test("an event in several lines goes on in one")
    func severalLines() throws {
        var relay = try relay()
        let event = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\r\"content\":\"a\"}}]}\n\n"
        let step = relay.take(ByteBuffer(string: event))
        #expect(step.tokens == 1 && String(buffer: step.forward).filter { $0 == "\n" || $0 == "\r" } == "\n\n")
    }

    @Test(
        "what is no event of the API ends the stream",
        arguments: [
            "data: nonsense\n\n", "data: []\n\n", "data: {}\n\n", "data: {\"choices\":{}}\n\n",
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":-1}}\n\n",
        ])
    func nonsense(event: String) throws {
        var relay = try relay()
        let step = relay.take(ByteBuffer(string: Self.piece("a") + event + Self.piece("b")))
        #expect(step.tokens == 1)
        guard case .failed = step.end else { return #expect(Bool(false), "\(String(describing: step.end))") }
    }

    @Test("an event without an end is given up at its bound")
    func endless() throws {
        var relay = try relay()
        var step = StreamRelay.Step()
        for _ in 0..<20 where step.end == nil {
            step = relay.take(ByteBuffer(repeating: UInt8(ascii: "a"), count: 65_536))
        }
        guard case .failed = step.end else { return #expect(Bool(false)) }
    }

    @Test("the text of an answer that is kept is put together")
    func keptText() throws {
        var relay = try relay(keepsText: true)
        _ = relay.take(ByteBuffer(string: Self.role + Self.piece("a\\n") + Self.piece("b") + Self.usage))
        let answer = relay.wholeAnswer(Usage(inputTokens: 9, outputTokens: 3, source: .worker)).map {
            String(buffer: $0)
        }
        #expect(answer?.contains(#""completion_tokens":3"#) == true)
        let tape = try JSONTape(ByteBuffer(string: answer ?? ""))
        let choice = try #require(tape.member("choices", of: tape.root).map { tape.elements(of: $0) }?.first)
        let content = tape.member("message", of: choice).flatMap { tape.member("content", of: $0) }
        #expect(content.flatMap { tape.string($0) } == "a\nb")
    }

    @Test("what is added to a stream is JSON and belongs to it")
    func ownEvents() throws {
        var relay = try relay()
        _ = relay.take(ByteBuffer(string: Self.piece("a")))
        let usage = Usage(inputTokens: 9, outputTokens: 3, source: .worker)
        for event in [
            relay.cutEvent(), relay.usageEvent(usage, cost: nil, currency: "", priceVersion: ""),
            relay.usageEvent(usage, cost: Micros(5), currency: "USD", priceVersion: "pv_1"),
        ] {
            let tape = try JSONTape(ByteBuffer(string: String(event.dropFirst(6).dropLast(2))))
            #expect(tape.member("id", of: tape.root).flatMap { tape.string($0) } == "c-1")
        }
    }

    private func tally(
        reported: OpenAIUsage = OpenAIUsage(), delivered: Int64, generated: Int64, profile: ModelProfile = profile
    ) -> StreamTally {
        StreamTally(
            profile: profile, reported: reported, deliveredTokens: delivered, generatedTokens: generated,
            promptBytes: 10, deliveredTextBytes: 17, inputCount: 1)
    }

    @Test("what is charged depends on the end and on the policy, and on nothing else")
    func charges() {
        var reported = OpenAIUsage()
        reported.inputTokens = 4
        let cut = tally(reported: reported, delivered: 6, generated: 9)
        for end in StreamEnd.allCases {
            for leave in StreamLeave.allCases {
                let isAll = end == .finished || end == .clientLeft && leave == .drain
                let usage = cut.usage(end: end, leave: leave)
                #expect(usage.inputTokens == 4 && usage.outputTokens == (isAll ? 9 : 6), "\(end) \(leave)")
                #expect(usage.source == .counted)
            }
        }
    }

    @Test("a prompt that nobody counted is estimated from its texts")
    func estimatedPrompt() {
        let usage = tally(delivered: 3, generated: 3).usage(end: .workerFailed, leave: .cancel)
        #expect(usage.inputTokens == 3 && usage.outputTokens == 3 && usage.source == .estimated)
    }

    @Test("a model's own way of counting holds for streams too")
    func otherCounting() {
        func profile(_ counting: TokenCounting) -> ModelProfile {
            ModelProfile(
                name: "m", version: "1", featureCount: nil, fixedTokensPerRequest: 5, maximumOutputTokens: 64,
                tokenCounting: counting)
        }
        #expect(
            tally(delivered: 1, generated: 1, profile: profile(.fixed)).usage(end: .finished, leave: .cancel)
                == Usage(inputTokens: 5, outputTokens: 0, source: .fixed))
        #expect(
            tally(delivered: 1, generated: 1, profile: profile(.counted)).usage(end: .finished, leave: .cancel)
                == Usage(inputTokens: 0, outputTokens: 1, source: .counted))
        #expect(
            tally(delivered: 1, generated: 1, profile: profile(.payload)).usage(end: .finished, leave: .cancel)
                == Usage(inputTokens: 3, outputTokens: 5, source: .estimated))
    }

    @Test("the texts of a request are what its prompt counts as")
    func texts() throws {
        let body =
            #"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"abcd"}]},{"content":"é"}]}"#
        // user, text, abcd, and a letter of two bytes.
        #expect(try OpenAIRequest(ByteBuffer(string: body), for: .chatCompletions).textByteCount == 14)
    }
}
