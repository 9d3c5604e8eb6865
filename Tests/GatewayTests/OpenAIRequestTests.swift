import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Requests of the OpenAI API") struct OpenAIRequestTests {
    private static let profile = ModelProfile(
        name: "assistant", version: "1", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 256)

    private func chat(_ more: String = "", surface: Surface = .chatCompletions) throws -> OpenAIRequest {
        try OpenAIRequest(
            ByteBuffer(string: "{\"model\":\"assistant\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]\(more)}"),
            for: surface)
    }

    private func body(_ request: OpenAIRequest, model: String = "assistant") -> String {
        String(buffer: OpenAIDialect.body(request, model: model, profile: Self.profile))
    }

    @Test("fields that nobody has heard of go on, and a bound is named where the caller named none")
    func passesThrough() throws {
        let request = try chat(#","x_new":{"a":[1.50,null]}"#)
        #expect(
            body(request)
                == #"{"max_tokens":256,"model":"assistant","messages":[{"role":"user","content":"a"}],"x_new":{"a":[1.50,null]}}"#
        )
    }

    @Test("a caller's own bound is left as it is", arguments: ["max_tokens", "max_completion_tokens"])
    func ownBound(name: String) throws {
        let request = try chat(",\"\(name)\":7")
        #expect(String(buffer: request.tape.bytes) == body(request))
        #expect(request.outputBound(Self.profile) == 7)
    }

    @Test("a stream is asked for its usage, whatever the caller said of it")
    func usageIsAskedFor() throws {
        for (options, expected) in [
            ("", #""stream_options":{"include_usage":true,"continuous_usage_stats":true}"#),
            (#","stream_options":{}"#, #""continuous_usage_stats":true,"include_usage":true"#),
            (#","stream_options":{"include_usage":false}"#, #""continuous_usage_stats":true,"include_usage":true"#),
            (
                #","stream_options":{"x":1,"include_usage":true}"#,
                #""continuous_usage_stats":true,"x":1,"include_usage":true"#
            ),
        ] {
            let text = body(try chat(",\"stream\":true\(options)"))
            #expect(text.contains(expected), "\(text)")
            _ = try JSONTape(ByteBuffer(string: text))
        }
    }

    @Test("an alias is called by its model's name")
    func alias() throws {
        #expect(body(try chat(#","max_tokens":1"#), model: "smol-1").hasPrefix(#"{"model":"smol-1","messages""#))
    }

    @Test(
        "the bound counts every answer that is made",
        arguments: [
            (#"{"model":"m","prompt":"a","max_tokens":10,"n":2,"best_of":3}"#, Surface.completions, 30),
            (#"{"model":"m","prompt":["a","b"],"max_tokens":10,"n":2}"#, .completions, 40),
            (#"{"model":"m","prompt":[1,2,3],"max_tokens":10}"#, .completions, 10),
            (#"{"model":"m","messages":[{}],"n":2}"#, .chatCompletions, 512),
            (#"{"model":"m","input":["a","b"]}"#, .embeddings, 0),
        ] as [(String, Surface, Int64)])
    func bounds(text: String, surface: Surface, bound: Int64) throws {
        #expect(try OpenAIRequest(ByteBuffer(string: text), for: surface).outputBound(Self.profile) == bound)
    }

    @Test(
        "what cannot be metered is refused and says where",
        arguments: [
            (#"{"messages":[{}]}"#, "/model"), (#"{"model":1,"messages":[{}]}"#, "/model"),
            (#"{"model":"m"}"#, "/messages"), (#"{"model":"m","messages":[]}"#, "/messages"),
            (#"{"model":"m","messages":[{}],"max_tokens":0}"#, "/max_tokens"),
            (#"{"model":"m","messages":[{}],"max_tokens":-1}"#, "/max_tokens"),
            (#"{"model":"m","messages":[{}],"max_tokens":1.5}"#, "/max_tokens"),
            (#"{"model":"m","messages":[{}],"max_tokens":"9"}"#, "/max_tokens"),
            (#"{"model":"m","messages":[{}],"max_tokens":9,"max_completion_tokens":8}"#, "/max_tokens"),
            (#"{"model":"m","messages":[{}],"n":129}"#, "/n"),
            (#"{"model":"m","messages":[{}],"stream":"yes"}"#, "/stream"),
            (#"{"model":"m","messages":[{}],"stream_options":{"include_usage":true}}"#, "/stream_options"),
        ] as [(String, String)])
    func refused(text: String, location: String) {
        let error = #expect(throws: Refusal.self) {
            try OpenAIRequest(ByteBuffer(string: text), for: .chatCompletions)
        }
        #expect(error?.code == .validationFailed)
        #expect(error?.errors.first?.location == location)
    }

    @Test("more than the model's bound is refused, not cut")
    func beyondTheModel() throws {
        let request = try chat(#","max_tokens":257"#)
        #expect(throws: Refusal.self) { try request.check(against: Self.profile) }
        try chat(#","max_tokens":256"#).check(against: Self.profile)
    }

    @Test(
        "a temperature of zero makes an answer repeatable, however it is written",
        arguments: [
            ("0", true), ("0.0", true), ("0e5", true), ("-0.00", true), ("0.1", false), ("1e-9", false),
            ("null", false),
            ("\"0\"", false),
        ] as [(String, Bool)])
    func cacheable(temperature: String, expected: Bool) throws {
        let policy = CachePolicy(isOn: true)
        let request = try chat(",\"temperature\":\(temperature)")
        #expect(request.isCacheable(policy, isAskedFor: false) == expected)
        #expect(try chat(",\"temperature\":0,\"stream\":true").isCacheable(policy, isAskedFor: true) == false)
        let asking = CachePolicy(isOn: true, generations: .requested)
        #expect(request.isCacheable(asking, isAskedFor: true))
    }

    @Test("an answer is passed on with the name that was asked for, and its usage is read")
    func answer() throws {
        let text =
            #"{"id":"x","model":"/disk/a.gguf","choices":[{"index":0}],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#
        let reading = try #require(
            OpenAIDialect.read(ByteBuffer(string: text), surface: .chatCompletions, model: "assistant"))
        #expect(String(buffer: reading.prediction) == text.replacing("/disk/a.gguf", with: "assistant"))
        #expect(reading.inputTokens == 9 && reading.outputTokens == 3 && reading.cachedInputTokens == 4)
    }

    @Test(
        "an answer that lies about its usage, or is none, cannot be used",
        arguments: [
            #"{"choices":[],"usage":{"prompt_tokens":-1}}"#, #"{"choices":[],"usage":{"prompt_tokens":"9"}}"#,
            #"{"choices":[],"usage":{"completion_tokens":1e308}}"#,
            #"{"choices":[],"usage":{"completion_tokens":1.5}}"#,
            #"{"choices":[],"usage":{},"usage":{}}"#, #"{"choices":[],"usage":[1]}"#, #"{"usage":{}}"#, "[]", "null",
            "",
        ])
    func unusable(text: String) {
        #expect(OpenAIDialect.read(ByteBuffer(string: text), surface: .chatCompletions, model: "m") == nil)
    }

    @Test("every surface has routes of its own, and nothing else is metered")
    func routes() {
        for surface in Surface.allCases where surface != .predict {
            #expect(MeteredRoutes.match("\(surface.idempotencyOperation.dropFirst(5))?a=b")?.surface == surface)
        }
        for path in ["/v1/models", "/v1/chat/completions/", "/v1/chat", "/predictx", "/", ""] {
            #expect(MeteredRoutes.match(path) == nil)
        }
    }

    @Test("an error is in its path's dialect")
    func dialects() {
        #expect(ErrorDialect(path: "/v1/models") == .openAI && ErrorDialect(path: "/v2") == .openInference)
        #expect(ErrorDialect(path: "/v2/models/a?b") == .openInference && ErrorDialect(path: "/v22") == .problem)
        #expect(ErrorDialect(path: "/predict") == .problem && ErrorDialect(path: "/v1") == .problem)
    }
}
