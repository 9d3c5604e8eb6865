import Foundation
import Testing

@testable import ReferenceWorker

@Suite("Plain predict")
struct PredictTests {
    @Test(
        "one row is answered with class, probabilities and usage", arguments: ["/predict", "/predict/", "/predict?x=1"])
    func oneRow(path: String) async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.post(path, #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#)
            #expect(answer.status == 200)
            #expect(answer.header("content-type") == "application/json")
            let object = try answer.object()
            #expect(Set(object.keys) == ["model", "version", "prediction", "probabilities", "usage"])
            #expect(object["model"] as? String == "iris")
            #expect(object["version"] as? String == "1")
            #expect(object["prediction"] as? String == "setosa")
            #expect(integer(object, "usage", "input_tokens") == 4)
            #expect(integer(object, "usage", "output_tokens") == 1)
        }
    }

    @Test("a batch of one row is still answered with lists")
    func batchOfOne() async throws {
        try await WorkerUnderTest.run { worker in
            let object = try await worker.predict(#"{"model":"iris","inputs":[[5.1,3.5,1.4,0.2]]}"#).object()
            #expect(object["prediction"] as? [String] == ["setosa"])
            #expect((object["probabilities"] as? [[NSNumber]])?.count == 1)
        }
    }

    @Test("keys in any order, unknown keys, white space and escapes are read")
    func lenientReading() async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.predict(
                """
                 {"features" : [ 51e-1, 3.5 ,1.4,0.2 ], "note": {"a": [1, {"b": null}], "c": "\\n"},\t"version":"1",
                "mod\\u0065l":"ir\\u0069s"}\n
                """)
            #expect(try answer.object()["prediction"] as? String == "setosa")
        }
    }

    @Test("a version of null is the latest one")
    func nullVersion() async throws {
        try await WorkerUnderTest.run { worker in
            expectStatus(200, of: try await worker.predict(#"{"model":"iris","version":null,"features":[5,3,1,0]}"#))
        }
    }

    @Test(
        "a faulty body is refused with a sentence that names the fault",
        arguments: [
            ("", "ends too early"),
            ("[]", "expected an object"),
            (#"{"model":"iris""#, "ends too early"),
            (#"{"model":"iris","features":[5.1,3.5,1.4,0.2]} x"#, "after the end"),
            (#"{"features":[5.1,3.5,1.4,0.2]}"#, "missing key \"model\""),
            (#"{"model":"iris"}"#, "missing key \"features\" or \"inputs\""),
            (#"{"model":7,"features":[1,2,3,4]}"#, "\"model\" has to be a string"),
            (#"{"model":"iris","version":1,"features":[1,2,3,4]}"#, "\"version\" has to be a string"),
            (#"{"model":"iris","features":{}}"#, "\"features\" has to be a list of numbers"),
            (#"{"model":"iris","features":[1,2,"3",4]}"#, "features[2]: expected a number"),
            (#"{"model":"iris","features":[1,2,null,4]}"#, "features[2]: expected a number"),
            (#"{"model":"iris","features":[1,2,[3],4]}"#, "features[2]: expected a number"),
            (#"{"model":"iris","features":[1,2,3]}"#, "takes 4 features, and 3 were given"),
            (#"{"model":"iris","features":[]}"#, "takes 4 features, and 0 were given"),
            (#"{"model":"iris","features":[1,2,3,4,5]}"#, "takes 4 features, and 5 were given"),
            (#"{"model":"iris","inputs":[]}"#, "\"inputs\" has no rows"),
            (#"{"model":"iris","inputs":[1,2,3,4]}"#, "inputs[0] has to be a list of numbers"),
            (#"{"model":"iris","inputs":[[1,2,3,4],[1,2,3]]}"#, "inputs[1] has 3 features, and model iris takes 4"),
            (#"{"model":"iris","inputs":[[1,2],[1,2]]}"#, "inputs[0] has 2 features"),
            (#"{"model":"iris","inputs":[[1,2,3,4],[1,true,3,4]]}"#, "inputs[1][1]: expected a number"),
            (#"{"model":"iris","features":[1,2,3,4],"inputs":[[1,2,3,4]]}"#, "\"features\" or \"inputs\", once"),
            (#"{"model":"iris","model":"iris","features":[1,2,3,4]}"#, "\"model\" stands twice"),
            (#"{"model":"iris","features":[1,2,3,NaN]}"#, "NaN"),
            (#"{"model":"iris","features":[1,2,3,-Infinity]}"#, "Infinity"),
            (#"{"model":"iris","features":[1,2,3,1e400]}"#, "beyond the range"),
            (#"{"model":"iris","features":[1e308,1e308,1e308,1e308]}"#, "not finite"),
            (#"{"model":"iris","features":[1,2,3,4,]}"#, "comma before the end"),
            (#"{"model":"iris","features":[01,2,3,4]}"#, "starts with a zero"),
        ])
    func faultyBody(body: String, complaint: String) async throws {
        try await WorkerUnderTest.run { worker in
            let answer = try await worker.predict(body)
            #expect(answer.status == 400)
            #expect(try answer.error().contains(complaint))
        }
    }

    @Test("nesting beyond 32 levels is refused, 32 are read")
    func depth() async throws {
        try await WorkerUnderTest.run { worker in
            func nested(_ levels: Int) -> String {
                let lists = String(repeating: "[", count: levels) + String(repeating: "]", count: levels)
                return #"{"x":\#(lists),"model":"iris","features":[1,2,3,4]}"#
            }
            expectStatus(200, of: try await worker.predict(nested(31)))
            let refused = try await worker.predict(nested(32))
            #expect(refused.status == 400)
            #expect(try refused.error().contains("deeper than 32"))
            expectStatus(400, of: try await worker.predict(nested(100_000)))
        }
    }

    @Test("a model or version that is not there is a 404")
    func notFound() async throws {
        try await WorkerUnderTest.run { worker in
            let model = try await worker.predict(#"{"model":"rose","features":[1]}"#)
            #expect(model.status == 404)
            #expect(try model.error() == "there is no such model")
            let version = try await worker.predict(#"{"model":"iris","version":"2","features":[1,2,3,4]}"#)
            #expect(version.status == 404)
            #expect(try version.error().hasSuffix("it has 1"))
        }
    }

    @Test("fault models are not there unless they are allowed")
    func faultsAreOff() async throws {
        try await WorkerUnderTest.run { worker in
            expectStatus(404, of: try await worker.predict(#"{"model":"fault-500","features":[1]}"#))
        }
    }

    @Test("a linear model answers a number and no probabilities")
    func linear() async throws {
        try await WorkerUnderTest.run(try TestModels.linear()) { worker in
            let object = try await worker.predict(#"{"model":"line","features":[10,1]}"#).object()
            #expect(object["prediction"] as? Double == 20.25)
            #expect(object["probabilities"] == nil)
            let batch = try await worker.predict(#"{"model":"line","inputs":[[10,1],[0,0]]}"#).object()
            #expect(try doubles(batch["prediction"]) == [20.25, 0.5])
        }
    }

    @Test("a logistic model with one row of coefficients is a sigmoid for the second class")
    func binary() async throws {
        try await WorkerUnderTest.run(try TestModels.binary()) { worker in
            let object = try await worker.predict(#"{"model":"coin","features":[2]}"#).object()
            #expect(object["prediction"] as? String == "heads")
            let probability = 1 / (1 + exp(-2.0))
            let probabilities = try doubles(object["probabilities"])
            #expect(abs(probabilities[0] - (1 - probability)) < 1e-15)
            #expect(abs(probabilities[1] - probability) < 1e-15)
            // On the border the first class wins, as in scikit-learn.
            let border = try await worker.predict(#"{"model":"coin","features":[0]}"#).object()
            #expect(border["prediction"] as? String == "tails")
            // exp overflows here, and the answer must not.
            let far = try await worker.predict(#"{"model":"coin","features":[-5000]}"#).object()
            #expect(try doubles(far["probabilities"]) == [1, 0])
        }
    }

    @Test("without a version the latest answers, by the value of its numbers")
    func latest() async throws {
        try await WorkerUnderTest.run(try TestModels.versions(["1.9", "1.10", "1.10-rc1"])) { worker in
            let latest = try await worker.predict(#"{"model":"line","features":[1]}"#).object()
            #expect(latest["version"] as? String == "1.10")
            let asked = try await worker.predict(#"{"model":"line","version":"1.9","features":[1]}"#).object()
            #expect(asked["version"] as? String == "1.9")
        }
    }
}

/// Small models whose answers can be worked out by hand.
enum TestModels {
    static func linear() throws -> LoadedModels {
        try load(
            #"{"name":"line","version":"1","kind":"linear","features":["a","b"],"coefficients":[[2,-0.25]],"intercepts":[0.5]}"#
        )
    }

    static func binary() throws -> LoadedModels {
        try load(
            """
            {"name":"coin","version":"1","kind":"logistic","features":["x"],"classes":["tails","heads"],
            "coefficients":[[1]],"intercepts":[0]}
            """)
    }

    static func versions(_ versions: [String]) throws -> LoadedModels {
        try load(
            versions.map {
                #"{"name":"line","version":"\#($0)","kind":"linear","features":["a"],"coefficients":[[1]],"intercepts":[0]}"#
            })
    }

    private static func load(_ texts: String...) throws -> LoadedModels { try load(texts) }

    private static func load(_ texts: [String]) throws -> LoadedModels {
        try LoadedModels(texts.map { ("test", try ModelFile.model(in: Array($0.utf8), file: "test")) })
    }
}
