import Domain
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Testing

@testable import InferenceClient

/// Runs tasks on an event loop, as the gateway's pipeline does.
final class LoopExecutor: TaskExecutor {
    let eventLoop: any EventLoop

    init(_ eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

let patient = WorkerDeadlines(connectMilliseconds: 10_000, firstByteMilliseconds: 10_000, totalMilliseconds: 20_000)
let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

/// A client on one loop and what is called through it.
struct Calling: Sendable {
    let client: WorkerClient
    let worker: ScriptedWorker
    let eventLoop: any EventLoop

    func send(
        _ body: String = "{}", path: String = "/predict", to address: WorkerAddress? = nil,
        deadlines: WorkerDeadlines = patient,
        requestID: String = "request-1", isSafeToRepeat: Bool = true
    ) async throws(WorkerFailure) -> WorkerReply {
        let request = WorkerRequest(
            path: path, body: ByteBuffer(string: body), requestID: requestID, isSafeToRepeat: isSafeToRepeat)
        return try await client.send(request, to: address ?? worker.address, deadlines: deadlines, on: eventLoop)
    }

    /// The failure of a call, or `nil` if it was answered.
    func failure(
        _ body: String = "{}", to address: WorkerAddress? = nil, deadlines: WorkerDeadlines = patient,
        path: String = "/predict"
    ) async -> WorkerFailure? {
        do throws(WorkerFailure) {
            _ = try await send(body, path: path, to: address, deadlines: deadlines)
            return nil
        } catch {
            return error
        }
    }

    /// Waits until the client's own counts satisfy the condition.
    func settle(_ condition: (WorkerClient.Statistics) -> Bool) async throws {
        let limit = ContinuousClock.now + .seconds(20)
        while !condition(client.statistics) {
            try #require(ContinuousClock.now < limit, "\(client.statistics)")
            try await Task.sleep(for: .milliseconds(1))
        }
    }
}

/// Starts a worker with the script and a client, runs the body on the client's loop, and takes both down again.
func withWorker(
    on group: any EventLoopGroup = ScriptedWorker.group,
    tls: NIOSSLContext? = nil,
    configure: (inout WorkerClient.Configuration) -> Void = { _ in },
    script: @escaping ScriptedWorker.Script = { _ in [.send(ok)] },
    _ body: @Sendable (Calling) async throws -> Void
) async throws {
    let worker = ScriptedWorker(script)
    try await worker.start(tls: tls, on: group)
    var configuration = WorkerClient.Configuration()
    configure(&configuration)
    let client = WorkerClient(
        eventLoops: group, configuration: configuration, logger: Logger(label: "test"))
    let eventLoop = group.any()
    let calling = Calling(client: client, worker: worker, eventLoop: eventLoop)
    do {
        try await withTaskExecutorPreference(LoopExecutor(eventLoop)) { try await body(calling) }
    } catch {
        await client.shutdown()
        await worker.stop()
        throw error
    }
    await client.shutdown()
    await worker.stop()
}
