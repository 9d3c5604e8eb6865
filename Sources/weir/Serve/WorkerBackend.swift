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
            traceState: call.traceState)
        let deadlines = WorkerDeadlines(
            connectMilliseconds: call.connectMilliseconds, firstByteMilliseconds: call.totalMilliseconds,
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
        case .closedBeforeResponse, .closedMidResponse, .malformedResponse, .responseTooLarge, .redirect, .cancelled,
            .invalidRequest:
            .badAnswer(cause: failure.metricLabel)
        }
    }
}
