import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Inference requests and answers") struct InferRequestTests {
    private static let input = #"{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2.5,3,4]}"#

    private func read(_ text: String, behind: [UInt8] = [], jsonByteCount: Int? = nil) throws(Refusal) -> InferRequest {
        var body = ByteBuffer(string: text)
        body.writeBytes(behind)
        return try InferRequest(
            body, model: "iris", version: "3",
            jsonByteCount: jsonByteCount ?? (behind.isEmpty ? nil : text.utf8.count))
    }

    private func question(_ request: InferRequest) -> String {
        var buffer = ByteBuffer()
        request.writeQuestion(to: &buffer)
        return String(buffer: buffer)
    }

    @Test(
        "what a client may send",
        arguments: [
            #"{"inputs":[\#(input)]}"#, #"{"id":"42","inputs":[\#(input)],"outputs":[]}"#,
            #"{"id":null,"parameters":null,"outputs":null,"inputs":[\#(input)]}"#,
            #"{"parameters":{"a":1,"b":"x","c":true},"inputs":[\#(input)],"outputs":[{"name":"p"}]}"#,
            #"{"model_name":"iris","model_version":"3","inputs":[\#(input)]}"#,
            #"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1],"parameters":{"content_type":"np"}}]}"#,
        ])
    func accepted(text: String) throws { _ = try read(text) }

    @Test(
        "what a client may not send, and where it stands",
        arguments: [
            ("{}", "/inputs"), (#"{"inputs":[]}"#, "/inputs"), (#"{"inputs":{}}"#, "/inputs"),
            (#"{"inputs":[1]}"#, "/inputs/0"), (#"{"id":1,"inputs":[\#(input)]}"#, "/id"),
            (#"{"id":"\#(String(repeating: "x", count: 1_025))","inputs":[\#(input)]}"#, "/id"),
            (#"{"inputs":[\#(input),\#(input)]}"#, "/inputs"),
            (#"{"inputs":[{"shape":[1],"datatype":"INT8","data":[1]}]}"#, "/inputs/0/name"),
            (#"{"inputs":[{"name":"","shape":[1],"datatype":"INT8","data":[1]}]}"#, "/inputs/0/name"),
            (#"{"inputs":[{"name":"x","datatype":"INT8","data":[1]}]}"#, "/inputs/0/shape"),
            (#"{"inputs":[{"name":"x","shape":[1],"data":[1]}]}"#, "/inputs/0/datatype"),
            (#"{"inputs":[{"name":"x","shape":[1],"datatype":"int8","data":[1]}]}"#, "/inputs/0/datatype"),
            (#"{"inputs":[{"name":"x","shape":[1],"datatype":"BF16","data":[1]}]}"#, "/inputs/0/datatype"),
            (#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8"}]}"#, "/inputs/0/data"),
            (#"{"inputs":[{"name":"x","shape":[2],"datatype":"INT8","data":[1]}]}"#, "/inputs/0/data"),
            (#"{"parameters":[],"inputs":[\#(input)]}"#, "/parameters"),
            (#"{"parameters":{"a":null},"inputs":[\#(input)]}"#, "/parameters"),
            (#"{"parameters":{"a":[1]},"inputs":[\#(input)]}"#, "/parameters"),
            (#"{"parameters":{"a":{}},"inputs":[\#(input)]}"#, "/parameters"),
            (#"{"parameters":{"binary_data_output":1},"inputs":[\#(input)]}"#, "/parameters/binary_data_output"),
            (#"{"parameters":{"sequence_id":1},"inputs":[\#(input)]}"#, "/parameters/sequence_id"),
            (#"{"parameters":{"priority":1},"inputs":[\#(input)]}"#, "/parameters/priority"),
            (
                #"{"inputs":[\#(input)],"outputs":[{"name":"p","parameters":{"shared_memory_region":"r"}}]}"#,
                "/outputs/0/parameters/shared_memory_region"
            ),
            (#"{"inputs":[\#(input)],"outputs":[{}]}"#, "/outputs/0/name"),
            (#"{"inputs":[\#(input)],"outputs":[{"name":"p"},{"name":"p"}]}"#, "/outputs"),
            (#"{"inputs":[\#(input)],"outputs":3}"#, "/outputs"),
            (#"{"inputs":[\#(input)],"url":"http://x"}"#, "/url"),
            (#"{"model_name":"other","inputs":[\#(input)]}"#, "/model_name"),
            (#"{"model_version":"4","inputs":[\#(input)]}"#, "/model_version"),
            (
                #"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}}]}"#,
                "/inputs/0/parameters/binary_data_size"
            ),
        ])
    func refused(text: String, location: String) {
        do throws(Refusal) {
            _ = try read(text)
            Issue.record("accepted")
        } catch {
            #expect(error.code == .validationFailed)
            #expect(error.errors.first?.location == location)
        }
    }

    @Test func binaryDataIsTakenInOrderAndWhole() throws {
        let head = { (first: Int, second: Int) in
            #"{"inputs":[{"name":"a","shape":[2],"datatype":"UINT8","parameters":{"binary_data_size":\#(first)}},"#
                + #"{"name":"j","shape":[1],"datatype":"INT8","data":[7]},"#
                + #"{"name":"b","shape":[1],"datatype":"INT16","parameters":{"binary_data_size":\#(second),"k":1}}]}"#
        }
        let request = try read(head(2, 2), behind: [1, 2, 0xFF, 0xFF])
        #expect(
            question(request)
                == #","inputs":[{"name":"a","shape":[2],"datatype":"UINT8","data":[1,2]},{"name":"j","shape":[1],"datatype":"INT8","data":[7]},"#
                + #"{"name":"b","shape":[1],"datatype":"INT16","parameters":{"k":1},"data":[-1]}]"#)
        #expect(request.elementCount == 4)
        for (first, second, bytes) in [
            (2, 2, [1, 2, 3]), (2, 2, [1, 2, 3, 4, 5]), (1, 3, [1, 2, 3, 4]), (-2, 2, [1, 2]),
            (2, 9_223_372_036_854_775_807, [1, 2, 3, 4]),
        ] as [(Int, Int, [UInt8])] {
            #expect((try? read(head(first, second), behind: bytes)) == nil)
        }
        #expect((try? read(#"{"inputs":[\#(Self.input)]}"#, jsonByteCount: 10_000)) == nil)
        #expect((try? read(#"{"inputs":[\#(Self.input)]}"#, jsonByteCount: 5)) == nil)
        #expect((try? read(#"{"inputs":[\#(Self.input)]}"#, jsonByteCount: -1)) == nil)
        // Also where it says what is true anyway.
        let text = #"{"inputs":[\#(Self.input)]}"#
        #expect((try? read(text, jsonByteCount: text.utf8.count)) != nil)
        let both =
            #"{"inputs":[{"name":"a","shape":[1],"datatype":"UINT8","data":[1],"parameters":{"binary_data_size":1}}]}"#
        #expect((try? read(both, behind: [1])) == nil)
    }

    @Test func whatSaysHowItIsSentDoesNotReachTheModel() throws {
        let request = try read(
            #"{"parameters":{"binary_data_output":true,"t":1},"inputs":[\#(Self.input)],"#
                + #""outputs":[{"name":"p","parameters":{"binary_data":false,"classification":2}},{"name":"q"}]}"#)
        #expect(question(request).hasPrefix(#","parameters":{"t":1},"inputs""#))
        #expect(
            question(request).hasSuffix(#""outputs":[{"name":"p","parameters":{"classification":2}},{"name":"q"}]"#))
        #expect(!request.wantsBinary("p"))
        #expect(request.wantsBinary("q"))
    }

    @Test(
        "one tensor of numbers is rows",
        arguments: [
            ("[4]", "[1,2,3,4]", #""features":[1,2,3,4]}"#), ("[1,4]", "[[1,2,3,4]]", #""features":[1,2,3,4]}"#),
            ("[2,2]", "[1,2,3,4]", #""inputs":[[1,2],[3,4]]}"#),
            ("[2,2]", "[[1,2],[3,4]]", #""inputs":[[1,2],[3,4]]}"#),
            ("[4,1]", "[1,2,3,4]", #""inputs":[[1],[2],[3],[4]]}"#),
        ])
    func rows(shape: String, data: String, expected: String) throws {
        let request = try read(#"{"inputs":[{"name":"x","shape":\#(shape),"datatype":"INT64","data":\#(data)}]}"#)
        let rows = try #require(request.rows)
        var buffer = ByteBuffer()
        request.writePredict(rows, model: "m", version: "2", to: &buffer)
        #expect(String(buffer: buffer) == #"{"model":"m","version":"2",\#(expected)"#)
    }

    @Test(arguments: [
        #"{"inputs":[{"name":"x","shape":[1,2,2],"datatype":"INT64","data":[1,2,3,4]}]}"#,
        #"{"inputs":[{"name":"x","shape":[],"datatype":"INT64","data":[1]}]}"#,
        #"{"inputs":[{"name":"x","shape":[0,4],"datatype":"INT64","data":[]}]}"#,
        #"{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["a"]}]}"#,
        #"{"inputs":[{"name":"x","shape":[1],"datatype":"BOOL","data":[true]}]}"#,
        #"{"inputs":[\#(input),{"name":"y","shape":[1],"datatype":"INT64","data":[1]}]}"#,
    ])
    func anythingElseIsNoRows(text: String) throws {
        let request = try read(text)
        #expect(request.rows == nil)
        #expect(throws: Refusal.self) { try request.check(against: profile(features: 4)) }
        try request.check(against: profile(features: nil))
    }

    private func profile(features: Int?) -> ModelProfile {
        ModelProfile(
            name: "iris", version: "1", featureCount: features, fixedTokensPerRequest: 1, maximumOutputTokens: 1)
    }

    // MARK: answers

    private func answer(_ text: String, to request: InferRequest) throws -> ByteBuffer {
        try InferAnswer.read(JSONTape(ByteBuffer(string: text)), wanted: request)
    }

    @Test func answersComeBackUnderTheCallersId() throws {
        let request = try read(#"{"id":"a\"b","inputs":[\#(Self.input)]}"#)
        let kept = try answer(
            #"{"model_name":"w","id":"other","parameters":{"x":1,"headers":null},"outputs":[{"name":"p","shape":[2,1],"datatype":"INT64","#
                + #""parameters":{"content_type":"np"},"data":[[9007199254740993],[2]]}]}"#, to: request)
        let written = InferAnswer.write(kept, to: request, version: "3")
        #expect(written.jsonByteCount == nil)
        #expect(
            String(buffer: written.body)
                == #"{"model_name":"iris","model_version":"3","id":"a\"b","outputs":[{"name":"p","shape":[2,1],"datatype":"INT64","#
                + #""parameters":{"content_type":"np"},"data":[9007199254740993,2]}],"parameters":{"x":1}}"#)
    }

    @Test func aJSONAnswerIsGivenInBinaryForm() throws {
        let request = try read(
            #"{"inputs":[\#(Self.input)],"outputs":[{"name":"b","parameters":{"binary_data":true}},{"name":"p"},"#
                + #"{"name":"t","parameters":{"binary_data":true}}]}"#)
        let kept = try answer(
            #"{"outputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":["ab","é"]},{"name":"p","shape":[1],"datatype":"INT8","data":[1]},"#
                + #"{"name":"extra","shape":[1],"datatype":"INT8","data":[1]},{"name":"b","shape":[2],"datatype":"FP32","data":[1.5,-2]}]}"#,
            to: request)
        let written = InferAnswer.write(kept, to: request, version: "3")
        let length = try #require(written.jsonByteCount)
        let json = written.body.getString(at: 0, length: length)
        #expect(
            json
                == #"{"model_name":"iris","model_version":"3","outputs":[{"name":"b","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},"#
                + #"{"name":"p","shape":[1],"datatype":"INT8","data":[1]},{"name":"t","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":12}}]}"#
        )
        #expect(
            Array(written.body.readableBytesView.dropFirst(length))
                == [0, 0, 0xC0, 0x3F, 0, 0, 0, 0xC0, 2, 0, 0, 0, 0x61, 0x62, 2, 0, 0, 0, 0xC3, 0xA9])
    }

    @Test(arguments: [
        "{}", #"{"outputs":{}}"#, #"{"outputs":[{}]}"#,
        #"{"outputs":[{"name":"p","shape":[2],"datatype":"INT8","data":[1]}]}"#,
        #"{"outputs":[{"name":"p","shape":[1],"datatype":"INT8","data":[300]}]}"#,
        #"{"outputs":[{"name":"p","shape":[1],"datatype":"INT8"}]}"#,
        #"{"outputs":[{"name":"p","shape":[9223372036854775807,9],"datatype":"INT8","data":[]}]}"#,
        #"{"outputs":[{"name":"q","shape":[1],"datatype":"INT8","data":[1]}]}"#,
    ])
    func whatIsNoAnswerIsRefused(text: String) throws {
        let request = try read(#"{"inputs":[\#(Self.input)],"outputs":[{"name":"p"}]}"#)
        #expect(throws: TensorFault.self) { try answer(text, to: request) }
    }

    @Test(
        "plain predictions are outputs",
        arguments: [
            (1, #""setosa""#, nil, #"{"name":"prediction","shape":[1],"datatype":"BYTES","data":["setosa"]}"#),
            (2, "[1,2]", nil, #"{"name":"prediction","shape":[2],"datatype":"INT64","data":[1,2]}"#),
            (2, "[1,2.5]", nil, #"{"name":"prediction","shape":[2],"datatype":"FP64","data":[1,2.5]}"#),
            (2, "[true,false]", nil, #"{"name":"prediction","shape":[2],"datatype":"BOOL","data":[true,false]}"#),
            (1, "[1.5,2]", nil, #"{"name":"prediction","shape":[1,2],"datatype":"FP64","data":[1.5,2]}"#),
            (2, "[[1],[2]]", nil, #"{"name":"prediction","shape":[2,1],"datatype":"INT64","data":[1,2]}"#),
            (
                1, #""a""#, "[0.5,0.5]",
                #"{"name":"prediction","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"probabilities","shape":[1,2],"datatype":"FP64","data":[0.5,0.5]}"#
            ),
        ] as [(Int, String, String?, String)])
    func plainPredictions(rows: Int, prediction: String, probabilities: String?, expected: String) throws {
        #expect(try plain(rows, prediction, probabilities) == #"{"outputs":[\#(expected)]}"#)
    }

    @Test(arguments: [
        (1, "null"), (1, "{}"), (2, "1"), (2, "[1]"), (2, "[1,2,3]"), (2, "[[1,2],[3]]"), (2, "[1,\"a\"]"), (1, "[]"),
        (2, "[1,[2]]"), (1, "[true,1]"), (2, "[[],[]]"),
    ])
    func whatIsNoPlainPrediction(rows: Int, prediction: String) {
        #expect(throws: TensorFault.self) { try plain(rows, prediction, nil) }
    }

    private func plain(_ rows: Int, _ prediction: String, _ probabilities: String?) throws -> String {
        let request = try read(#"{"inputs":[\#(Self.input)]}"#)
        let tape = try JSONTape(ByteBuffer(string: #"{"p":\#(prediction),"q":\#(probabilities ?? "null")}"#))
        let first = try #require(tape.member("p", of: tape.root))
        let second = try #require(tape.member("q", of: tape.root))
        return String(
            buffer: try InferAnswer.read(
                prediction: first, probabilities: probabilities == nil ? nil : second, of: tape, rows: rows,
                wanted: request))
    }
}
