public import Domain
public import Logging
public import NIOCore
internal import Synchronization

/// Sends requests to inference workers over HTTP/1.1 and keeps the connections.
///
/// Made for one caller, the gateway's pipeline, which runs on the event loop of its own connection: a call made on a
/// loop uses that loop's connections and is answered on that loop, so that no thread but one touches it. Every loop has
/// its own pool for this reason, and there is no lock between them.
///
/// One attempt per call, with a single exception: if a connection that has answered before is closed without a byte of
/// an answer, and the request is safe to repeat, it is sent once more on a fresh connection. Everything else is the caller's to decide;
/// ``WorkerFailure/isSafeToRetry`` says what a repetition risks.
///
/// Must be shut down: until then its connections keep it alive.
public final class WorkerClient: Sendable {
    private let lanes: [Lane]
    private let directory: WorkerDirectory

    /// - Parameter eventLoops: the loops that calls are made on. They have to outlive the client.
    public init(eventLoops: any EventLoopGroup, configuration: Configuration = Configuration(), logger: Logger) {
        let directory = WorkerDirectory(
            policy: configuration.addressPolicy, trust: configuration.trust, lookup: configuration.lookup)
        var lanes: [Lane] = []
        for eventLoop in eventLoops.makeIterator() {
            lanes.append(Lane(eventLoop: eventLoop, configuration: configuration, directory: directory, logger: logger))
        }
        self.directory = directory
        self.lanes = lanes
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// - Parameter eventLoop: a loop of the group that the client was made for. Cheapest if the calling task runs on
    ///   it; from elsewhere the call costs two hops. With a loop of another group any loop of the client's serves.
    /// - Throws: ``WorkerFailure``. An answer of any status but a redirect is a reply, not a failure. If the task is
    ///   cancelled the connection is closed, which tells the worker to stop.
    public func send(
        _ request: WorkerRequest, to address: WorkerAddress, deadlines: WorkerDeadlines, on eventLoop: any EventLoop
    ) async throws(WorkerFailure) -> WorkerReply {
        guard let lane = lanes.first(where: { $0.eventLoop === eventLoop }) ?? lanes.first else { throw .shutdown }
        let token = lane.nextToken()
        let result: Result<WorkerReply, WorkerFailure> = await withTaskCancellationHandler {
            await withExchangeContinuation { continuation in
                if lane.eventLoop.inEventLoop {
                    lane.pool.value.start(
                        request, to: address, deadlines: deadlines, token: token, continuation: continuation)
                } else {
                    lane.eventLoop.execute {
                        lane.pool.value.start(
                            request, to: address, deadlines: deadlines, token: token, continuation: continuation)
                    }
                    // A cancellation may have overtaken the start, and found nothing.
                    if Task.isCancelled { lane.cancel(token) }
                }
            }
        } onCancel: {
            lane.cancel(token)
        }
        return try result.get()
    }

    /// Fails all calls, closes all connections and returns when they are closed. Later calls fail as
    /// ``WorkerFailure/shutdown``.
    public func shutdown() async {
        for lane in lanes {
            // Nothing to handle: the future fails only if its loop is gone, and the connections with it.
            try? await lane.eventLoop.flatSubmit { lane.pool.value.shutDown() }.get()
        }
        directory.shutDown()
    }

    public var statistics: Statistics {
        var sum = Statistics()
        for lane in lanes { lane.gauges.add(to: &sum) }
        return sum
    }

    func pool(of eventLoop: any EventLoop) -> LoopPool? {
        lanes.first { $0.eventLoop === eventLoop }?.pool.value
    }

    /// What a call needs to find its loop's pool.
    private final class Lane: Sendable {
        let eventLoop: any EventLoop
        let pool: NIOLoopBoundBox<LoopPool>
        let gauges = LoopGauges()
        private let lastToken = Atomic<UInt64>(0)

        init(eventLoop: any EventLoop, configuration: Configuration, directory: WorkerDirectory, logger: Logger) {
            self.eventLoop = eventLoop
            pool = NIOLoopBoundBox.makeBoxSendingValue(
                LoopPool(
                    eventLoop: eventLoop, configuration: configuration, directory: directory, gauges: gauges,
                    logger: logger),
                eventLoop: eventLoop)
        }

        func nextToken() -> UInt64 {
            lastToken.wrappingAdd(1, ordering: .relaxed).newValue
        }

        func cancel(_ token: UInt64) {
            eventLoop.execute { self.pool.value.cancel(token) }
        }
    }
}
