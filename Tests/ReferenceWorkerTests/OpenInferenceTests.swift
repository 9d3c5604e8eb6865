import Foundation
import Testing

@testable import ReferenceWorker

@Suite("Open Inference Protocol")
struct OpenInferenceTests {
    private static let row = #"{"name":"input0","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}"#

    // MARK: Metadata and health

    @Test("the server describes itself")
    func server() async throws {
        try await WorkerUnderTest.run { worker in
            let object = try await worker.get("/v2").object()
            #expect(object["name"] as? String == "weir-reference-worker")
            #expect(object["version"] is String)
            #expect(object["extensions"] as? [String] == [])
        }
    }

    @Test("live and ready answer with their fields")
    func health() async throws {
        try await WorkerUnderTest.run { worker in
            #expect(try await worker.get("/v2/health/live").object() as? [String: Bool] == ["live": true])
            #expect(
                try await worker.get("/v2/health/ready").object() as? [String: Bool] == ["live": true, "ready": true])
            let object = try await worker.get("/health").object()
            #expect(object["status"] as? String == "healthy")
            #expect(object["models"] as? [[String: String]] == [["name": "iris", "version": "1"]])
        }
    }

    @Test(
        "a model lists its versions, inputs and outputs", arguments: ["/v2/models/iris", "/v2/models/iris/versions/1"])
    func model(path: String) async throws {
        try await WorkerUnderTest.run { worker in
            let object = try await worker.get(path).object()
            #expect(object["name"] as? String == "iris")
            #expect(object["versions"] as? [String] == ["1"])
            let inputs = try #require(object["inputs"] as? [[String: Any]])
            #expect(inputs.map { $0["name"] as? String } == ["input0"])
            #expect(inputs[0]["shape"] as? [Int] == [-1, 4])
            let outputs = try #require(object["outputs"] as? [[String: Any]])
            #expect(outputs.map { $0["name"] as? String } == ["prediction", "probabilities"])
            #expect(outputs.map { $0["datatype"] as? String } == ["BYTES", "FP64"])
            #expect(outputs[1]["shape"] as? [Int] == [-1, 3])
        }
    }

    @Test("a model says that it is ready", arguments: ["/v2/models/iris/ready", "/v2/models/iris/versions/1/ready"])
    func modelReady(path: String) async throws {
        try await WorkerUnderTest.run { worker in
            let object = try await worker.get(path).object()
            #expect(object["name"] as? String == "iris")
            #expect(object["ready"] as? Bool == true)
        }
    }

    @Test(
        "what is not there is a 404 with an error",
        arguments: [
            "/", "/v1", "/v2/models", "/v2/models/", "/v2/models/rose", "/v2/models/rose/ready",
            "/v2/models/iris/versions", "/v2/models/iris/versions/2", "/v2/models/iris/versions/2/ready",
            "/v2/models/iris/other", "/v2/health", "/predict/x", "//predict",
        ])
    func notFound(path: String) async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.get(path)
            #expect(answer.status == 404)
            #expect(try !answer.error().isEmpty)
        }
    }

    @Test("a wrong method is a 405 that names the right ones")
    func methods() async throws {
        try await WorkerUnderTest.run { worker in
            let get = try await worker.get("/v2/models/iris/infer")
            #expect(get.status == 405)
            #expect(get.header("allow") == "POST")
            #expect(try get.error().contains("POST"))
            let post = try await worker.post("/v2", "{}")
            #expect(post.status == 405)
            #expect(post.header("allow") == "GET, HEAD")
        }
    }

    @Test("HEAD has the head of GET and no body")
    func head() async throws {
        try await WorkerUnderTest.run { worker in
            let get = try await worker.get("/v2")
            let head = try await worker.get("/v2", method: "HEAD")
            #expect(head.status == 200)
            #expect(head.body.isEmpty)
            #expect(head.header("content-length") == get.header("content-length"))
        }
    }

    // MARK: Inference

    @Test(
        "an inference is answered by the protocol",
        arguments: ["/v2/models/iris/infer", "/v2/models/iris/versions/1/infer"])
    func infer(path: String) async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.infer(
                #"{"id":"42","parameters":{"timeout_ms":500,"a":"b","c":true},"inputs":[\#(Self.row)]}"#, path: path)
            #expect(answer.status == 200)
            let object = try answer.object()
            #expect(object["model_name"] as? String == "iris")
            #expect(object["model_version"] as? String == "1")
            #expect(object["id"] as? String == "42")
            #expect(object["parameters"] as? [String: Int] == ["input_tokens": 4, "output_tokens": 1])
            let outputs = try #require(object["outputs"] as? [[String: Any]])
            try #require(outputs.count == 2)
            #expect(outputs[0]["name"] as? String == "prediction")
            #expect(outputs[0]["datatype"] as? String == "BYTES")
            #expect(outputs[0]["shape"] as? [Int] == [1])
            #expect(outputs[0]["data"] as? [String] == ["setosa"])
            #expect(outputs[1]["name"] as? String == "probabilities")
            #expect(outputs[1]["datatype"] as? String == "FP64")
            #expect(outputs[1]["shape"] as? [Int] == [1, 3])
            #expect(try doubles(outputs[1]["data"]).count == 3)
        }
    }

    @Test("an id is echoed to the character, and left out when it was not given")
    func identifier() async throws {
        try await WorkerUnderTest.run { worker in
            let given = try await worker.infer(#"{"id":"a\"\\\u0001\n\ud83d\ude00é","inputs":[\#(Self.row)]}"#).object()
            #expect(given["id"] as? String == "a\"\\\u{1}\n😀é")
            let absent = try await worker.infer(#"{"inputs":[\#(Self.row)]}"#).object()
            #expect(absent["id"] == nil)
        }
    }

    @Test(
        "flat and nested data, any order of keys and one row without its dimension are the same",
        arguments: [
            #"{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}"#,
            #"{"name":"x","shape":[1,4],"datatype":"FP64","data":[[5.1,3.5,1.4,0.2]]}"#,
            #"{"data":[[5.1,3.5,1.4,0.2]],"datatype":"FP64","parameters":{},"shape":[1,4],"name":"x"}"#,
            #"{"name":"x","shape":[4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}"#,
        ])
    func layouts(tensor: String) async throws {
        try await WorkerUnderTest.run { worker in
            let expected = try await worker.infer(#"{"inputs":[\#(Self.row)]}"#).body
            #expect(try await worker.infer(#"{"inputs":[\#(tensor)]}"#).body == expected)
        }
    }

    @Test("the outputs asked for come in the order asked for")
    func outputs() async throws {
        try await WorkerUnderTest.run { worker in
            func names(_ outputs: String) async throws -> [String?] {
                let object = try await worker.infer(#"{"inputs":[\#(Self.row)],"outputs":\#(outputs)}"#).object()
                return try #require(object["outputs"] as? [[String: Any]]).map { $0["name"] as? String }
            }
            let one = try await names(#"[{"name":"probabilities"}]"#)
            #expect(one == ["probabilities"])
            let both = try await names(#"[{"name":"probabilities","parameters":{"x":1}},{"name":"prediction"}]"#)
            #expect(both == ["probabilities", "prediction"])
            let all = try await names("[]")
            #expect(all == ["prediction", "probabilities"])
        }
    }

    @Test(
        "integers of every type are read to the last one that fits, and not beyond",
        arguments: [
            ("INT8", "-128", true), ("INT8", "-129", false), ("INT8", "127", true), ("INT8", "128", false),
            ("UINT8", "255", true), ("UINT8", "256", false), ("UINT8", "-1", false), ("UINT8", "-0", true),
            ("INT16", "32767", true), ("INT16", "-32769", false), ("UINT16", "65536", false),
            ("INT32", "-2147483648", true), ("INT32", "2147483648", false), ("UINT32", "4294967295", true),
            ("INT64", "-9223372036854775808", true), ("INT64", "-9223372036854775809", false),
            ("INT64", "9223372036854775808", false), ("UINT64", "9223372036854775808", true),
            ("UINT64", "18446744073709551616", false), ("INT64", "1.0", false), ("INT64", "1e3", false),
            // 2^53 is the last of an unbroken row of integers in a double; rounding its neighbour would be a wrong
            // input.
            ("INT64", "9007199254740992", true), ("INT64", "9007199254740993", false),
            ("BOOL", "true", true), ("BOOL", "1", false), ("FP16", "65504", true), ("FP16", "65536", false),
            ("FP32", "3e38", true), ("FP32", "1e39", false), ("FP64", "1e39", true), ("BYTES", "\"1\"", false),
        ])
    func datatypes(datatype: String, literal: String, fits: Bool) async throws {
        try await WorkerUnderTest.run(try TestModels.versions(["1"])) { worker in
            let answer = try await worker.infer(
                #"{"inputs":[{"name":"x","shape":[1],"datatype":"\#(datatype)","data":[\#(literal)]}]}"#,
                path: "/v2/models/line/infer")
            #expect(answer.status == (fits ? 200 : 400))
            guard fits else { return #expect(try !answer.error().isEmpty) }
            let outputs = try #require(try answer.object()["outputs"] as? [[String: Any]])
            let expected = literal == "true" ? 1 : try #require(Double(literal))
            #expect(try doubles(outputs[0]["data"]) == [expected])
            #expect(outputs[0]["datatype"] as? String == "FP64")
        }
    }

    @Test(
        "a faulty request is refused with a sentence that names the fault",
        arguments: [
            ("", "ends too early"),
            ("{}", "missing key \"inputs\""),
            (#"{"inputs":[]}"#, "takes one input tensor, and 0 were given"),
            (#"{"inputs":[R,R]}"#, "takes one input tensor, and 2 were given"),
            (#"{"inputs":{}}"#, "\"inputs\" has to be a list"),
            (#"{"id":42,"inputs":[R]}"#, "\"id\" has to be a string"),
            (#"{"id":"1","id":"2","inputs":[R]}"#, "\"id\" stands twice"),
            (#"{"parameters":{"a":{}},"inputs":[R]}"#, "parameter \"a\""),
            (#"{"parameters":{"a":null},"inputs":[R]}"#, "parameter \"a\""),
            (#"{"parameters":[],"inputs":[R]}"#, "\"parameters\" has to be an object"),
            (#"{"inputs":[R],"outputs":[{"name":"other"}]}"#, "prediction, probabilities"),
            (#"{"inputs":[R],"outputs":[{"name":"prediction"},{"name":"prediction"}]}"#, "twice"),
            (#"{"inputs":[R],"outputs":[{}]}"#, "outputs[0]: missing key \"name\""),
            (#"{"inputs":[R]}}"#, "after the end"),
            (#"{"inputs":[{"shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#, "inputs[0]: missing key \"name\""),
            (#"{"inputs":[{"name":"x","datatype":"FP32","data":[1,2,3,4]}]}"#, "missing key \"shape\""),
            (#"{"inputs":[{"name":"x","shape":[1,4],"data":[1,2,3,4]}]}"#, "missing key \"datatype\""),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32"}]}"#, "missing key \"data\""),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP128","data":[1,2,3,4]}]}"#, "unknown datatype"),
            (
                #"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3]}]}"#,
                "3 elements where the shape says 4"
            ),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4,5]}]}"#, "more than the 4"),
            (
                #"{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[[1,2,3,4],[1,2,3]]}]}"#,
                "3 elements where"
            ),
            (#"{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[[1,2,3,4],1,2,3,4]}]}"#, "not nested"),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[[[1,2,3,4]]]}]}"#, "expected a number"),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":7}]}"#, "\"data\" has to be a list"),
            (#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#, "takes 4 features"),
            (#"{"inputs":[{"name":"x","shape":[1,1,4],"datatype":"FP32","data":[1,2,3,4]}]}"#, "[1,1,4] was given"),
            (#"{"inputs":[{"name":"x","shape":[0,4],"datatype":"FP32","data":[]}]}"#, "no rows"),
            (#"{"inputs":[{"name":"x","shape":[-1,4],"datatype":"FP32","data":[]}]}"#, "negative"),
            (#"{"inputs":[{"name":"x","shape":[1.5,4],"datatype":"FP32","data":[]}]}"#, "expected an integer"),
            (
                #"{"inputs":[{"name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[1,2,3,4]}]}"#,
                "product of the shape overflows"
            ),
            (
                #"{"inputs":[{"name":"x","shape":[1000000000000,4],"datatype":"FP32","data":[1,2,3,4]}]}"#,
                "4 elements where the shape says 4000000000000"
            ),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,NaN]}]}"#, "NaN"),
            (#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[1,2,3,1e999]}]}"#, "beyond the range"),
        ])
    func faultyRequest(body: String, complaint: String) async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.infer(body.replacingOccurrences(of: "R", with: Self.row))
            #expect(answer.status == 400)
            let error = try answer.error()
            #expect(error.contains(complaint), "\(error)")
        }
    }

    @Test("binary tensors are refused and not misread")
    func binaryTensors() async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.post(
                "/v2/models/iris/infer", #"{"inputs":[\#(Self.row)]}"#,
                headers: [("Inference-Header-Content-Length", "10")])
            #expect(answer.status == 400)
            #expect(try answer.error().contains("binary"))
        }
    }
}
