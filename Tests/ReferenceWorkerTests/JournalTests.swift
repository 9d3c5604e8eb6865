import Foundation
import Testing

@testable import ReferenceWorker

@Suite("The journal and the counters")
struct JournalTests {
    private func lines(_ file: URL) throws -> [[String: Any]] {
        try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
    }

    @Test("every executed inference has a line, in order, before its answer")
    func lines() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("journal")
            try await WorkerUnderTest.run(nil, .init(journalPath: file.path)) { worker in
                for number in 0..<20 {
                    let rows = Array(repeating: "[1,2,3,4]", count: number + 1).joined(separator: ",")
                    let answer = try await worker.post(
                        "/predict", #"{"model":"iris","inputs":[\#(rows)]}"#,
                        headers: [("X-Request-Id", "req_\(number)")])
                    #expect(answer.status == 200)
                    #expect(try lines(file).count == number + 1)
                }
            }
            for (number, line) in try lines(file).enumerated() {
                #expect(line["request_id"] as? String == "req_\(number)")
                #expect(line["model"] as? String == "iris")
                #expect(line["version"] as? String == "1")
                #expect(integer(line, "input_tokens") == Int64(number + 1) * 4)
                #expect(integer(line, "output_tokens") == Int64(number + 1))
            }
        }
    }

    @Test("lines of many connections on several event loops do not mix")
    func concurrentLines() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("journal")
            try await WorkerUnderTest.run(nil, .init(eventLoops: 2, journalPath: file.path)) { worker in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<200 {
                        group.addTask {
                            let body = #"{"model":"iris","features":[1,2,3,4]}"#
                            let answer = try await worker.post(
                                "/predict", body, headers: [("x-request-id", "req_\(number)")])
                            #expect(answer.status == 200)
                        }
                    }
                    try await group.waitForAll()
                }
            }
            let identifiers = try lines(file).compactMap { $0["request_id"] as? String }
            #expect(identifiers.count == 200)
            #expect(Set(identifiers) == Set((0..<200).map { "req_\($0)" }))
        }
    }

    @Test("a request without an id has null, and one with quotes is escaped")
    func identifiers() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("journal")
            try await WorkerUnderTest.run(nil, .init(journalPath: file.path)) { worker in
                let body = #"{"model":"iris","features":[1,2,3,4]}"#
                _ = try await worker.post("/predict", body)
                _ = try await worker.post("/predict", body, headers: [("x-request-id", #"a"b\c"#)])
            }
            let identifiers = try lines(file).map { $0["request_id"] as? String }
            #expect(identifiers == [nil, #"a"b\c"#])
        }
    }

    @Test("a refused request has no line")
    func refusals() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("journal")
            try await WorkerUnderTest.run(nil, .init(journalPath: file.path, allowsFaults: true)) { worker in
                _ = try await worker.predict(#"{"model":"iris","features":[1,2,3]}"#)
                _ = try await worker.predict(#"{"model":"rose","features":[1,2,3]}"#)
                _ = try await worker.predict(#"{"model":"fault-500","features":[1,2,3]}"#)
                _ = try await worker.infer("{}")
                _ = try await worker.get("/v2/models/iris")
                #expect(try lines(file).isEmpty)
                _ = try await worker.predict(#"{"model":"fault-negative","features":[1,2,3]}"#)
            }
            // The journal keeps what was done, whatever the answer claims.
            #expect(try lines(file).map { integer($0, "input_tokens") } == [3])
        }
    }

    @Test("a worker that starts again goes on with the same file")
    func appends() async throws {
        try await withTemporaryFolder { folder in
            let file = folder.appendingPathComponent("journal")
            for count in 1...2 {
                try await WorkerUnderTest.run(nil, .init(journalPath: file.path)) { worker in
                    _ = try await worker.predict(#"{"model":"iris","features":[1,2,3,4]}"#)
                }
                #expect(try lines(file).count == count)
            }
        }
    }

    @Test(
        "an inference whose line cannot be written is not answered",
        .enabled(if: FileManager.default.fileExists(atPath: "/dev/full")))
    func fullDisk() async throws {
        try await WorkerUnderTest.run(nil, .init(journalPath: "/dev/full")) { worker in
            let answer = try await worker.predict(#"{"model":"iris","features":[1,2,3,4]}"#)
            #expect(answer.status == 500)
            #expect(try answer.error() == "the journal cannot be written")
        }
    }

    @Test("the counters count inferences, tokens and refusals")
    func metrics() async throws {
        try await WorkerUnderTest.run { worker in
            _ = try await worker.predict(#"{"model":"iris","inputs":[[1,2,3,4],[1,2,3,4]]}"#)
            _ = try await worker.predict("{}")
            _ = try await worker.post("/v2", "{}")
            let answer = try await worker.get("/metrics")
            #expect(answer.header("content-type")?.hasPrefix("text/plain; version=0.0.4") == true)
            let samples = String(decoding: answer.body, as: UTF8.self).split(separator: "\n").filter {
                !$0.hasPrefix("#")
            }
            #expect(
                samples == [
                    "weir_worker_inferences_total 1", "weir_worker_input_tokens_total 8",
                    "weir_worker_output_tokens_total 2", "weir_worker_refusals_total 2",
                ])
        }
    }
}
