import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("generate requests")
struct GenerateRequestTests {
    private func read(_ text: String) throws(Refusal) -> GenerateRequest {
        try GenerateRequest(ByteBuffer(string: text), model: "m", version: nil)
    }

    /// Each of them would change where the request goes, how much is answered, or what is charged for it.
    @Test(
        "parameters that are ours to say are refused by their names, however these are written",
        arguments: [
            "model", "prompt", "stream", "stream_options", "n", "best_of", "text_input", "api_base", "base_url", "url",
            "callback", "headers", "priority", "request_id", "prompt_embeds", "echo", "n_cmpl", "n_predict",
            "num_predict", "max_new_tokens", "max_gen_len", "sequence_id", "shared_memory_region",
        ])
    func refused(name: String) throws {
        let escaped = name.unicodeScalars.map { scalar in
            let digits = String(scalar.value, radix: 16)
            return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }.joined()
        for spelling in [name, escaped] {
            for value in ["1", "\"x\"", "true"] {
                let text = "{\"text_input\": \"a\", \"parameters\": {\"temperature\": 0, \"\(spelling)\": \(value)}}"
                let refusal = #expect(throws: Refusal.self, "\(text)") { try read(text) }
                #expect(refusal?.code == .validationFailed && refusal?.errors.first?.location == "/parameters/\(name)")
            }
        }
    }

    @Test("other parameters go on to the worker as they stand, and our own are read")
    func passed() throws {
        let request = try read(
            #"{"text_input": "a", "parameters": {"top_k": 3, "max_tokens": 5, "details": true, "stop": ["x", "y"], "seed": "s"}}"#
        )
        #expect(request.parameters.map { request.tape.string($0.name) } == ["top_k", "stop", "seed"])
        #expect(request.maximumTokens == 5 && request.wantsDetails)
    }
}
