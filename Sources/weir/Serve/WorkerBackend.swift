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
            let usage = reply.usage
            return WorkerAnswer(
                status: reply.status, body: reply.body, contentType: reply.contentType,
                headUsage: usage.isUnusable
                    ? nil
                    : HeadUsage(
                        inputTokens: usage.inputTokens, cachedInputTokens: usage.cachedInputTokens,
                        outputTokens: usage.outputTokens))
        } catch {
            throw Self.failure(error)
        }
    }

    func openStream(
        _ call: WorkerCall, gapMilliseconds: Int64, on eventLoop: any EventLoop,
        receiver: any Gateway.WorkerStreamReceiver
    ) -> (any WorkerStreamHandle)? {
        let request = WorkerRequest(
            path: call.path, body: call.body, requestID: call.requestID, traceParent: call.traceParent,
            traceState: call.traceState, isSafeToRepeat: call.isSafeToRepeat)
        let deadlines = StreamDeadlines(
            connectMilliseconds: call.connectMilliseconds, firstByteMilliseconds: call.firstByteMilliseconds,
            gapMilliseconds: gapMilliseconds, totalMilliseconds: call.totalMilliseconds)
        return client.openStream(
            request, to: call.address, deadlines: deadlines, on: eventLoop, receiver: Receiver(receiver)
        ).map { Handle(stream: $0) }
    }

    /// Tells the pipeline in its own words.
    private final class Receiver: InferenceClient.WorkerStreamReceiver {
        private let receiver: any Gateway.WorkerStreamReceiver

        init(_ receiver: any Gateway.WorkerStreamReceiver) { self.receiver = receiver }

        func workerOpened(status: Int, contentType: String?) {
            receiver.workerOpened(status: status, contentType: contentType)
        }

        func workerSent(_ bytes: ByteBuffer) { receiver.workerSent(bytes) }

        func workerEnded(_ failure: WorkerFailure?) {
            receiver.workerEnded(failure.map { WorkerBackend.failure($0) })
        }
    }

    private struct Handle: WorkerStreamHandle {
        let stream: WorkerStream

        func setReading(_ isOn: Bool) { stream.setReading(isOn) }
        func cancel() { stream.cancel() }
    }

    private static func failure(_ failure: WorkerFailure) -> BackendFailure {
        switch failure {
        case .connectRefused, .connectTimeout, .unreachable, .tls, .shutdown: .unreachable(cause: failure.metricLabel)
        case .firstByteTimeout, .totalTimeout, .gapTimeout: .timeout(cause: failure.metricLabel)
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
