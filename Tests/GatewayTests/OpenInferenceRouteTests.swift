import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("Routes and workers of the Open Inference Protocol") struct OpenInferenceRouteTests {
    private static let requestID = RequestID(high: 0x0195_a3c0_11aa_7bcd, low: 0x8e00_5f6a_7b8c_9d0e)
    private static let profile = ModelProfile(
        name: "m", version: "1", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 64)

    @Test(
        "the path names model, version and operation",
        arguments: [
            ("/v2/models/m/infer", Surface.infer, "m", nil), ("/v2/models/m/generate", .generate, "m", nil),
            ("/v2/models/m/generate_stream", .generateStream, "m", nil),
            ("/v2/models/m/infer?x=1", .infer, "m", nil), ("/v2/models/m/versions/2/infer", .infer, "m", "2"),
            ("/v2/models/versions/versions/2/generate", .generate, "versions", "2"),
            ("/v2/models//infer", .infer, "", nil),
        ] as [(String, Surface, String, String?)])
    func path(target: String, surface: Surface, model: String, version: String?) {
        #expect(
            MeteredRoutes.match(target) == CallTarget(surface: surface, model: model, version: version))
    }

    @Test(arguments: [
        "/v2/models/m", "/v2/models/m/", "/v2/models/m/infer/", "/v2/models/m/ready", "/v2/models/m/versions/infer",
        "/v2/models/m/versions/1", "/v2/models/m/version/1/infer", "/v2/models/m/versions/1/2/infer", "/v2/infer",
        "/v2/models/infer", "/V2/models/m/infer", "/v2/models/m/Infer", "//v2/models/m/infer",
    ])
    func anythingElseIsNotMetered(target: String) { #expect(MeteredRoutes.match(target) == nil) }

    @Test(arguments: ["", "..", "M", "a/b", "a%20b", "ä"])
    func aNameThatNoModelCanHaveIsNotThere(name: String) {
        let target = CallTarget(surface: .infer, model: name)
        #expect { try InferenceRequest(ByteBuffer(string: "{}"), for: target) } throws: {
            ($0 as? Refusal)?.code == .modelNotFound
        }
    }

    @Test func keysStandForTheModelToo() {
        let names = [
            CallTarget(surface: .infer, model: "a"), CallTarget(surface: .infer, model: "b"),
            CallTarget(surface: .generate, model: "a"), CallTarget(surface: .infer, model: "a", version: "1"), .predict,
        ].map(\.idempotencyOperation)
        #expect(Set(names).count == names.count)
        #expect(names.last == "POST /predict/", "what was claimed before is still found")
    }

    @Test func binaryDataArePartOfTheFingerprint() throws {
        let tape = try JSONTape(ByteBuffer(string: "{}"))
        let prints = [nil, ByteBuffer(string: ""), ByteBuffer(string: "a"), ByteBuffer(string: "b")].map {
            ClaimKeeper.fingerprint("x", tape, binary: $0)
        }
        #expect(prints[0] == prints[1])
        #expect(Set(prints).count == 3)
    }

    private func generate(_ text: String) throws -> InferenceRequest {
        try InferenceRequest(ByteBuffer(string: text), for: CallTarget(surface: .generate, model: "m"))
    }

    private func body(_ request: InferenceRequest, _ workerProtocol: WorkerProtocol) -> String {
        String(
            buffer: WorkerDialect.body(
                request, requestID: Self.requestID, for: workerProtocol, model: "real", version: nil,
                profile: Self.profile))
    }

    @Test func aTextGoesOnInTheWorkersWords() throws {
        let request = try generate(
            #"{"id":"x","text_input":"a\"b","parameters":{"temperature":0.0,"stop":["\n"],"details":true}}"#)
        #expect(
            body(request, .openai)
                == #"{"model":"real","prompt":"a\"b","max_tokens":64,"temperature":0.0,"stop":["\n"]}"#)
        #expect(
            body(request, .oip)
                == #"{"id":"req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e","text_input":"a\"b","parameters":{"max_tokens":64,"details":true,"temperature":0.0,"stop":["\n"]}}"#
        )
        #expect(WorkerDialect.path(.openai, of: .generate, model: "m", version: "1") == "/v1/completions")
        #expect(WorkerDialect.path(.oip, of: .generate, model: "m", version: "1") == "/v2/models/m/versions/1/generate")
        #expect(request.isSpoken(by: .oip) && request.isSpoken(by: .openai) && !request.isSpoken(by: .predict))
        #expect(request.outputBound(Self.profile) == 64)
        #expect(try generate(#"{"text_input":"a","parameters":{"max_tokens":3}}"#).outputBound(Self.profile) == 3)
    }

    @Test func onlyRowsOfNumbersGoToPlainWorkers() throws {
        func infer(_ input: String, _ more: String = "") throws -> InferenceRequest {
            try InferenceRequest(
                ByteBuffer(string: #"{"inputs":[{"name":"x",\#(input)}]\#(more)}"#),
                for: CallTarget(surface: .infer, model: "m"))
        }
        let rows = try infer(#""shape":[2,2],"datatype":"FP32","data":[1,2,3,4]"#)
        #expect(rows.isSpoken(by: .predict) && rows.isSpoken(by: .oip) && !rows.isSpoken(by: .openai))
        #expect(body(rows, .predict) == #"{"model":"real","inputs":[[1,2],[3,4]]}"#)
        #expect(rows.rowCount == 2 && rows.numberCount == 4)
        #expect(rows.outputBound(Self.profile) == 128)
        let text = try infer(#""shape":[1],"datatype":"BYTES","data":["a"]"#)
        #expect(!text.isSpoken(by: .predict) && text.isSpoken(by: .oip))
        let other = try infer(#""shape":[2],"datatype":"FP32","data":[1,2]"#, #","outputs":[{"name":"x"}]"#)
        #expect(!other.isSpoken(by: .predict))
        // Rows without an element count as one, however many there are said to be.
        let empty = try infer(#""shape":[4611686018427387904,0],"datatype":"FP32","data":[]"#)
        #expect(empty.rowCount == 1)
    }

    @Test func equalTensorsAreOneQuestion() throws {
        let secret = CacheSecret(pepper: [UInt8](repeating: 1, count: 32), tenantID: TenantID(high: 1, low: 1))
        func key(_ input: String, _ more: String = "") throws -> CacheKey {
            let request = try InferenceRequest(
                ByteBuffer(string: #"{"inputs":[{"name":"x",\#(input)}]\#(more)}"#),
                for: CallTarget(surface: .infer, model: "m"))
            return secret.key(of: request, model: "m", version: "1", policy: .off, label: nil)
        }
        let flat = #""shape":[2,2],"datatype":"FP32","data":[1,2,3,4.5]"#
        #expect(try key(flat) == key(#""shape":[2,2],"datatype":"FP32","data":[[1.0, 2e0],[3,45e-1]]"#))
        #expect(try key(flat) == key(flat, #","id":"other""#))
        for (input, more) in [
            (#""shape":[4],"datatype":"FP32","data":[1,2,3,4.5]"#, ""),
            (#""shape":[2,2],"datatype":"FP64","data":[1,2,3,4.5]"#, ""),
            (#""shape":[2,2],"datatype":"FP32","data":[1,2,3,4]"#, ""), (flat, #","parameters":{"a":1}"#),
            (flat, #","outputs":[{"name":"p"}]"#),
        ] { #expect(try key(flat) != key(input, more)) }
    }

    @Test func statisticsCountWhatWorkersDid() {
        let statistics = InferenceStatistics()
        let subject = InferenceStatistics.Subject(tenantID: TenantID(high: 1, low: 1), model: "m", version: "1")
        let timings = StageTimings(authenticate: 1, route: 2, quota: 3, upstream: 10, settle: 4)
        let now = Timestamp(microsecondsSince1970: 5)
        statistics.change(subject) { $0.succeed(timings, rows: 3, cache: nil, at: now) }
        statistics.change(subject) {
            $0.succeed(timings, rows: 3, cache: .forwarded(.uriMiss, isStored: true), at: now)
        }
        statistics.change(subject) { $0.succeed(timings, rows: 3, cache: .hit(ttlSeconds: 1, ageSeconds: 1), at: now) }
        statistics.change(subject) { $0.failed.add(7) }
        let tally = statistics.tallies(of: "m", tenantID: subject.tenantID)["1"]
        #expect(tally?.inferences == 6)
        #expect(tally?.executions == 2)
        #expect(tally?.succeeded == .init(count: 3, nanoseconds: 60))
        #expect(tally?.failed == .init(count: 1, nanoseconds: 7))
        #expect(tally?.queue == .init(count: 3, nanoseconds: 18))
        #expect(tally?.compute == .init(count: 2, nanoseconds: 20))
        #expect(tally?.hits.count == 1)
        #expect(tally?.misses.count == 1)
        #expect(statistics.tallies(of: "m", tenantID: TenantID(high: 1, low: 2)).isEmpty)
    }
}
