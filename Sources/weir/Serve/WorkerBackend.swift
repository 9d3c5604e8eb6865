import Domain
import Gateway
import InferenceClient
import NIOCore

/// Lets the pipeline call workers through the client.
struct WorkerBackend: InferenceBackend {
    let client: WorkerClient

    func send(_ call: WorkerCall, on eventLoop: any EventLoop) async throws(BackendFailure) -> WorkerAnswer {
        let request = WorkerRequest(
            path: call.path, body: call.body, requestID: call.requestID, traceParent: call.traceParent,
            traceState: call.traceState, isSafeToRepeat: call.isSafeToRepeat)
        let deadlines = WorkerDeadlines(
            connectMilliseconds: call.connectMilliseconds, firstByteMilliseconds: call.firstByteMilliseconds,
            totalMilliseconds: call.totalMilliseconds)
        do throws(WorkerFailure) {
            let reply = try await client.send(request, to: call.address, deadlines: deadlines, on: eventLoop)
            return WorkerAnswer(status: reply.status, body: reply.body)
        } catch {
            throw Self.failure(error)
        }
    }

    private static func failure(_ failure: WorkerFailure) -> BackendFailure {
        switch failure {
        case .connectRefused, .connectTimeout, .unreachable, .tls, .shutdown: .unreachable(cause: failure.metricLabel)
        case .firstByteTimeout, .totalTimeout: .timeout(cause: failure.metricLabel)
        case .overloaded: .overloaded
        case .cancelled: .cancelled
        case .closedBeforeResponse, .closedMidResponse, .malformedResponse: .badAnswer(cause: failure.metricLabel)
        case .responseTooLarge, .redirect, .invalidRequest: .unusableAnswer(cause: failure.metricLabel)
        }
    }
}

/// Asks workers for their health over the same client, on any of its loops.
struct WorkerProbeBackend: ProbeBackend {
    let client: WorkerClient
    let eventLoops: any EventLoopGroup

    func probe(_ address: WorkerAddress, path: String, timeoutMilliseconds: Int64) async -> Int? {
        let request = WorkerRequest(method: .get, path: path, requestID: "probe")
        let deadlines = WorkerDeadlines(
            connectMilliseconds: timeoutMilliseconds, firstByteMilliseconds: timeoutMilliseconds,
            totalMilliseconds: timeoutMilliseconds)
        do throws(WorkerFailure) {
            return try await client.send(request, to: address, deadlines: deadlines, on: eventLoops.any()).status
        } catch {
            return nil
        }
    }
}
