import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import ReferenceWorker
import Testing

/// A running worker and a client for it.
struct WorkerUnderTest: Sendable {
    typealias Configuration = ReferenceWorkerServer.Configuration

    let port: Int

    /// Starts a worker, runs the body against it and stops it, also when the body throws.
    static func run(
        _ models: LoadedModels? = nil, _ configuration: Configuration = Configuration(),
        _ body: (WorkerUnderTest) async throws -> Void
    ) async throws {
        let server = ReferenceWorkerServer(
            models: try models ?? LoadedModels.builtIn(), configuration: configuration, logger: Logger(label: "test"))
        let worker = WorkerUnderTest(port: try await server.start())
        do {
            try await body(worker)
        } catch {
            await server.shutdown()
            throw error
        }
        await server.shutdown()
    }

    struct Answer {
        let status: Int
        let headers: HTTPHeaders
        let body: Data

        func header(_ name: String) -> String? { headers.first(name: name) }

        /// The body by Foundation's parser, which knows nothing of ours.
        func object() throws -> [String: Any] {
            try #require(try JSONSerialization.jsonObject(with: body) as? [String: Any])
        }

        func error() throws -> String {
            let object = try object()
            #expect(object.count == 1)
            return try #require(object["error"] as? String)
        }
    }

    func get(_ path: String, method: String = "GET") async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        request.method = HTTPMethod(rawValue: method)
        return try await execute(request)
    }

    func post(_ path: String, _ body: String, headers: [(String, String)] = []) async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        request.body = .bytes(ByteBuffer(string: body))
        return try await execute(request)
    }

    func predict(_ body: String) async throws -> Answer {
        try await post("/predict", body)
    }

    func infer(_ body: String, path: String = "/v2/models/iris/infer") async throws -> Answer {
        try await post(path, body)
    }

    /// Waits until the worker has executed so many inferences, whether or not they are answered yet.
    func waitForInferences(_ count: Int) async throws {
        let sample = Data("\nweir_worker_inferences_total \(count)\n".utf8)
        while try await get("/metrics").body.range(of: sample) == nil { await Task.yield() }
    }

    private func execute(_ request: HTTPClientRequest) async throws -> Answer {
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let body = try await response.body.collect(upTo: 128 * 1024 * 1024)
        return Answer(
            status: Int(response.status.code), headers: response.headers, body: Data(body.readableBytesView))
    }
}

/// With the `try` of its argument outside a macro: a closure whose only `try` stands in `#expect` is not taken for a
/// throwing one.
func expectStatus(_ status: Int, of answer: WorkerUnderTest.Answer, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(answer.status == status, sourceLocation: sourceLocation)
}

/// Numbers that stand under a path of keys, with a message where they do not.
func integer(_ object: Any?, _ path: String...) -> Int64? {
    var value = object
    for key in path { value = (value as? [String: Any])?[key] }
    return (value as? NSNumber)?.int64Value
}

func doubles(_ value: Any?) throws -> [Double] {
    try #require(value as? [NSNumber]).map(\.doubleValue)
}

/// The root of the repository, from where this file lies.
let repositoryRoot = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// A folder that is gone after the body.
func withTemporaryFolder(_ body: (URL) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("weir-worker-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try await body(folder)
}
