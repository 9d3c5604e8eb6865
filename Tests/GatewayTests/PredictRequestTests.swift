import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Predict requests") struct PredictRequestTests {
    private func refusal(_ text: String) -> Refusal? {
        do throws(Refusal) {
            // As for a model that knows no field of its own.
            try PredictRequest(ByteBuffer(string: text)).check(extra: nil)
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "one row and several rows are read",
        arguments: [
            (#"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#, nil as String?, 1, false),
            (#"{"features":[1],"version":"2","model":"a.b-c_d"}"#, "2", 1, false),
            (#"{"model":"iris","inputs":[[1,2],[3,4],[5,6]]}"#, nil, 3, true),
            (#"{"model":"iris","inputs":[[-0.0e-5]]}"#, nil, 1, true),
            (#"{"\u006dodel":"\u0069ris","features":[1]}"#, nil, 1, false),
            (#"{"model":"iris","features":[1],"version":"1.0.0-rc.1+b_2"}"#, "1.0.0-rc.1+b_2", 1, false),
        ] as [(String, String?, Int, Bool)])
    func accepted(text: String, version: String?, rows: Int, isBatch: Bool) throws {
        let request = try PredictRequest(ByteBuffer(string: text))
        #expect(request.version == version)
        #expect(request.rows.count == rows)
        #expect(request.isBatch == isBatch)
        #expect(InferenceRequest.predict(request).byteCount == Int64(text.utf8.count))
    }

    @Test(
        "what does not fit is refused with the code and the place",
        arguments: [
            ("", FailureCode.invalidJSON, ""), ("null", .invalidJSON, ""), ("[]", .invalidJSON, ""),
            ("1", .invalidJSON, ""), ("\"iris\"", .invalidJSON, ""),
            (#"{"model":"iris","features":[1]}x"#, .invalidJSON, ""),
            (#"{"model":"iris","features":[1e999]}"#, .invalidNumber, ""),
            (#"{"model":"iris","features":[NaN]}"#, .invalidNumber, ""),
            (#"{"model":"a","model":"b","features":[1]}"#, .duplicateKey, ""),
            (#"{"model":"a","features":"# + String(repeating: "[", count: 40) + "]", .tooDeep, ""),
            ("{}", .validationFailed, "/model"), (#"{"features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":null,"features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":7,"features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"","features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"Iris","features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"../iris","features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"a..b","features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"a%2fb","features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"a\/b","features":[1]}"#, .validationFailed, "/model"),
            (#"{"model":"iris"}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":[1],"inputs":[[1]]}"#, .validationFailed, "/inputs"),
            (#"{"model":"iris","features":null}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":5}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":[]}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":["1"]}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":[1,null]}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":[[1]]}"#, .validationFailed, "/features"),
            (#"{"model":"iris","features":[true]}"#, .validationFailed, "/features"),
            (#"{"model":"iris","inputs":[]}"#, .validationFailed, "/inputs"),
            (#"{"model":"iris","inputs":{}}"#, .validationFailed, "/inputs"),
            (#"{"model":"iris","inputs":[1]}"#, .validationFailed, "/inputs/0"),
            (#"{"model":"iris","inputs":[[1],[]]}"#, .validationFailed, "/inputs/1"),
            (#"{"model":"iris","inputs":[[1,2],[3]]}"#, .validationFailed, "/inputs/1"),
            (#"{"model":"iris","inputs":[[1],[2],["x"]]}"#, .validationFailed, "/inputs/2"),
            (#"{"model":"iris","features":[1],"version":1}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":""}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":null}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":"1/../../x"}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":".."}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":"."}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":"1 HTTP/1.1\r\nx: y"}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":"1?x=1"}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":"%2e%2e"}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"version":"é"}"#, .validationFailed, "/version"),
            (#"{"model":"iris","features":[1],"tenant":"x"}"#, .validationFailed, "/tenant"),
            (#"{"model":"iris","features":[1],"Model":"x"}"#, .validationFailed, "/Model"),
            (#"{"model":"iris","features":[1],"api_base":"http:\/\/x"}"#, .forbiddenField, ""),
            (#"{"model":"iris","features":[1],"base_url":1}"#, .forbiddenField, ""),
            (#"{"model":"iris","features":[1],"url":1}"#, .forbiddenField, ""),
            (#"{"model":"iris","features":[1],"callback":1}"#, .forbiddenField, ""),
            (#"{"model":"iris","features":[1],"headers":{}}"#, .forbiddenField, ""),
            (#"{"\u0075rl":1}"#, .forbiddenField, ""),
        ] as [(String, FailureCode, String)])
    func refused(text: String, code: FailureCode, location: String) {
        let refusal = self.refusal(text)
        #expect(refusal?.code == code)
        #expect((refusal?.errors.first?.location ?? "") == location)
    }

    @Test("a version of more than 128 bytes is refused")
    func longVersion() {
        func text(_ count: Int) -> String {
            #"{"model":"iris","features":[1],"version":"\#(String(repeating: "1", count: count))"}"#
        }
        #expect(refusal(text(128)) == nil)
        #expect(refusal(text(129))?.errors.first?.location == "/version")
    }

    @Test("an unknown field is named, cut to a length that makes no large answer")
    func unknownField() throws {
        let refusal = try #require(
            self.refusal(#"{"model":"iris","features":[1],"\#(String(repeating: "é", count: 10_000))":1}"#))
        #expect(refusal.code == .validationFailed)
        #expect(refusal.detail.utf8.count < 400)
    }

    @Test("a row has at most 4,096 numbers, a request at most 4,096 rows")
    func limits() {
        func row(_ count: Int) -> String { "[" + Array(repeating: "1", count: count).joined(separator: ",") + "]" }
        #expect(refusal(#"{"model":"iris","features":\#(row(4_096))}"#) == nil)
        #expect(refusal(#"{"model":"iris","features":\#(row(4_097))}"#)?.errors.first?.location == "/features")
        func rows(_ count: Int) -> String { "[" + Array(repeating: "[1]", count: count).joined(separator: ",") + "]" }
        #expect(refusal(#"{"model":"iris","inputs":\#(rows(4_096))}"#) == nil)
        #expect(refusal(#"{"model":"iris","inputs":\#(rows(4_097))}"#)?.errors.first?.location == "/inputs")
    }

    @Test("the width of a row is checked where the model declares one")
    func width() throws {
        func profile(_ count: Int?) -> ModelProfile {
            ModelProfile(
                name: "iris", version: "1", featureCount: count, fixedTokensPerRequest: 1, maximumOutputTokens: 0)
        }
        let request = try PredictRequest(ByteBuffer(string: #"{"model":"iris","inputs":[[1,2],[3,4]]}"#))
        try request.check(against: profile(2))
        try request.check(against: profile(nil))
        let error = #expect(throws: Refusal.self) { try request.check(against: profile(3)) }
        #expect(error?.errors.first?.location == "/inputs/0")
        #expect(error?.detail.contains("has 2 numbers, the model iris takes 3") == true)
    }

    @Test(
        "every failure of the document has its own code",
        arguments: [
            (JSONTape.Failure.invalid(atByte: 7), FailureCode.invalidJSON), (.tooDeep, .tooDeep),
            (.duplicateKey, .duplicateKey), (.invalidNumber, .invalidNumber), (.tooManyKeys, .invalidJSON),
            (.nul(atByte: 7), .validationFailed),
        ] as [(JSONTape.Failure, FailureCode)])
    func documentFailure(failure: JSONTape.Failure, code: FailureCode) {
        #expect(Refusal(failure).code == code)
    }
}
