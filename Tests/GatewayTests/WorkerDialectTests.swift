import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Worker dialects") struct WorkerDialectTests {
    private static let requestID = RequestID(high: 0x0195_a3c0_11aa_7bcd, low: 0x8e00_5f6a_7b8c_9d0e)

    private static let profile = ModelProfile(
        name: "iris", version: "1", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 64)

    private func read(_ text: String, _ workerProtocol: WorkerProtocol, isBatch: Bool = false) -> WorkerReading? {
        let rows = isBatch ? #""inputs":[[1]]"# : #""features":[1]"#
        guard let request = try? PredictRequest(ByteBuffer(string: "{\"model\":\"iris\",\(rows)}")) else { return nil }
        return WorkerDialect.read(ByteBuffer(string: text), from: workerProtocol, to: .predict(request))
    }

    @Test(
        "the path is the protocol's",
        arguments: [
            (WorkerProtocol.predict, "1", "/predict"), (.predict, "", "/predict"), (.oip, "", "/v2/models/iris/infer"),
            (.oip, "3", "/v2/models/iris/versions/3/infer"),
        ] as [(WorkerProtocol, String, String)])
    func path(workerProtocol: WorkerProtocol, version: String, path: String) {
        #expect(WorkerDialect.path(workerProtocol, of: .predict, model: "iris", version: version) == path)
    }

    @Test("a plain body goes on as the caller wrote it")
    func plainBody() throws {
        let text = #"{ "model":"iris", "features":[5.10,1e0] }"#
        let request = try PredictRequest(ByteBuffer(string: text))
        #expect(
            String(
                buffer: WorkerDialect.body(
                    .predict(request), requestID: Self.requestID, for: .predict, model: request.model,
                    version: request.version, profile: Self.profile))
                == text)
    }

    @Test(
        "a tensor has the shape of the rows and the caller's own digits",
        arguments: [
            (#"{"model":"iris","features":[5.10, 1e0,-3]}"#, #""shape":[1,3],"datatype":"FP64","data":[5.10, 1e0,-3]"#),
            (#"{"model":"iris","inputs":[[1,2],[3.00,4]]}"#, #""shape":[2,2],"datatype":"FP64","data":[1,2,3.00,4]"#),
            (
                #"{"model":"iris","inputs":[[9007199254740993]]}"#,
                #""shape":[1,1],"datatype":"FP64","data":[9007199254740993]"#
            ),
        ] as [(String, String)])
    func tensor(text: String, expected: String) throws {
        let request = try PredictRequest(ByteBuffer(string: text))
        let body = String(
            buffer: WorkerDialect.body(
                .predict(request), requestID: Self.requestID, for: .oip, model: request.model, version: nil,
                profile: Self.profile))
        #expect(body == #"{"id":"req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e","inputs":[{"name":"input0",\#(expected)}]}"#)
        _ = try JSONTape(ByteBuffer(string: body))
    }

    @Test("a plain answer is read, its JSON kept as it came")
    func plainAnswer() throws {
        let reading = try #require(
            read(
                #"{"prediction":"set\u006fsa","probabilities":[0.970,2e-2],"version":"7","usage":{"input_tokens":12,"cached_input_tokens":5,"output_tokens":3}}"#,
                .predict))
        #expect(String(buffer: reading.prediction) == #""set\u006fsa""#)
        #expect(reading.probabilities.map { String(buffer: $0) } == "[0.970,2e-2]")
        #expect(reading.version == "7")
        #expect(reading.inputTokens == 12 && reading.cachedInputTokens == 5 && reading.outputTokens == 3)
    }

    @Test("a prediction may be anything, also null", arguments: ["0", "null", "[1,2]", #"{"a":1}"#, "true"])
    func anyPrediction(text: String) throws {
        let reading = try #require(read("{\"prediction\":\(text)}", .predict))
        #expect(String(buffer: reading.prediction) == text)
        #expect(
            reading.probabilities == nil && reading.version == nil && reading.inputTokens == nil
                && reading.outputTokens == nil)
    }

    @Test(
        "a count that is unknown is not zero",
        arguments: [
            #"{"prediction":1,"usage":null}"#, #"{"prediction":1,"usage":{}}"#,
            #"{"prediction":1,"usage":{"input_tokens":null,"output_tokens":null}}"#, #"{"prediction":1,"usage":[5]}"#,
        ])
    func unknownCount(text: String) throws {
        let reading = try #require(read(text, .predict))
        #expect(reading.inputTokens == nil && reading.outputTokens == nil && reading.cachedInputTokens == nil)
    }

    @Test(
        "a count that cannot be billed makes the answer unusable",
        arguments: ["-1", "1.5", "1e3", "9223372036854775808", "\"5\"", "true", "[1]", "{}"])
    func badCount(count: String) {
        for name in ["input_tokens", "cached_input_tokens", "output_tokens"] {
            #expect(read(#"{"prediction":1,"usage":{"\#(name)":\#(count)}}"#, .predict) == nil, "\(name)")
            #expect(
                read(#"{"outputs":[{"name":"p","data":[1]}],"parameters":{"\#(name)":\#(count)}}"#, .oip) == nil,
                "\(name)")
        }
    }

    @Test(
        "what is no answer of the protocol is refused",
        arguments: [
            "", "{}", "[]", "null", "1", #"{"prediction":1"#, #"{"prediction":1}x"#,
            #"{"prediction":1,"prediction":2}"#, #"{"Prediction":1}"#, "<html>",
            #"{"outputs":[{"name":"p","data":[1]}]}"#, #"{"prediction":NaN}"#,
        ])
    func noPlainAnswer(text: String) {
        #expect(read(text, .predict) == nil)
    }

    @Test(
        "what is no tensor answer is refused",
        arguments: [
            "{}", #"{"prediction":1}"#, #"{"outputs":[]}"#, #"{"outputs":{}}"#, #"{"outputs":[{}]}"#,
            #"{"outputs":[{"name":"p"}]}"#, #"{"outputs":[{"data":[1]}]}"#, #"{"outputs":[{"name":"p","data":1}]}"#,
            #"{"outputs":[{"name":"p","data":[1]},7]}"#,
            #"{"outputs":[{"name":"probabilities","data":[1]}]}"#,
        ])
    func noTensorAnswer(text: String) {
        #expect(read(text, .oip) == nil)
    }

    @Test(
        "a tensor answer of one row is the row itself",
        arguments: [
            (
                #"{"outputs":[{"name":"label","shape":[1],"datatype":"BYTES","data":["setosa"]}]}"#, #""setosa""#,
                nil as String?
            ),
            (
                #"{"outputs":[{"name":"label","data":["a"]},{"name":"probabilities","shape":[1,2],"data":[0.9,0.1]}]}"#,
                #""a""#, "[0.9,0.1]"
            ),
            (
                #"{"outputs":[{"name":"probabilities","data":[[0.9,0.1]]},{"name":"label","data":[2]}]}"#, "2",
                "[0.9,0.1]"
            ), (#"{"outputs":[{"name":"y","data":[1,2]}]}"#, "[1,2]", nil),
            (#"{"outputs":[{"name":"y","data":[1]},{"name":"z","data":[2]}]}"#, "1", nil),
        ] as [(String, String, String?)])
    func oneRow(text: String, prediction: String, probabilities: String?) throws {
        let reading = try #require(read(text, .oip))
        #expect(String(buffer: reading.prediction) == prediction)
        #expect(reading.probabilities.map { String(buffer: $0) } == probabilities)
    }

    @Test(
        "probabilities of a batch become rows, or nothing where the shape does not fit",
        arguments: [
            ("[2,2]", "[1,2,3,4]", "[[1,2],[3,4]]" as String?), ("[4,1]", "[1,2,3,4]", "[[1],[2],[3],[4]]"),
            ("[2,2]", "[[1,2],[3,4]]", "[[1,2],[3,4]]"), ("[3,2]", "[1,2,3,4]", nil), ("[0,2]", "[1,2]", nil),
            ("[-1]", "[1,2]", nil),
            ("[]", "[1,2]", nil), ("[1.5]", "[1,2]", nil), ("[9223372036854775807]", "[1,2]", nil),
            ("[2,0]", "[]", nil), ("\"2\"", "[1,2]", nil),
        ] as [(String, String, String?)])
    func batch(shape: String, data: String, expected: String?) throws {
        let reading = try #require(
            read(
                #"{"outputs":[{"name":"label","data":[7,8]},{"name":"probabilities","shape":\#(shape),"data":\#(data)}]}"#,
                .oip, isBatch: true))
        #expect(String(buffer: reading.prediction) == "[7,8]")
        #expect(reading.probabilities.map { String(buffer: $0) } == expected)
    }

    @Test("a batch of one row stays a list")
    func batchOfOne() throws {
        let reading = try #require(
            read(
                #"{"outputs":[{"name":"label","data":[7]}],"model_version":"4","parameters":{"input_tokens":3}}"#, .oip,
                isBatch: true))
        #expect(String(buffer: reading.prediction) == "[7]")
        #expect(reading.version == "4" && reading.inputTokens == 3 && reading.outputTokens == nil)
    }
}
