internal import HTTPListener
internal import NIOCore

/// A request that stands whole, and who answers it where.
struct ReadyRequest {
    let call: InferenceCall
    let clientID: ClientRequestID?
    let keepsAlive: Bool
    let handler: DataPlaneHandler
    let context: ChannelHandlerContext
}

/// The tasks of one loop that run requests, each one request after the other. Confined to its loop.
///
/// A task's memory grows to what the frames of the pipeline need and is given back when the task ends. With a task for each request that
/// was a tenth of the loop's time: allocations, their release, and pages that the allocator returned to the system and took again.
final class RequestRunners: Sendable {
    private struct State {
        /// Tasks that have nothing to do.
        var idle: [UnsafeContinuation<NIOLoopBound<ReadyRequest>?, Never>] = []
        /// Requests whose task has been started and not run yet.
        var arriving = CircularBuffer<NIOLoopBound<ReadyRequest>>()
        var isOver = false
    }

    /// Tasks that are kept while they have nothing to do; some 10 KB each.
    private static let idleLimit = 256

    private let eventLoop: any EventLoop
    private let state: NIOLoopBoundBox<State>

    /// Must be made on `eventLoop`.
    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        state = NIOLoopBoundBox(State(), eventLoop: eventLoop)
    }

    func run(_ request: ReadyRequest, through pipeline: InferencePipeline, on loop: LoopContext) {
        let request = NIOLoopBound(request, eventLoop: eventLoop)
        if let runner = state.value.idle.popLast() { return runner.resume(returning: request) }
        state.value.arriving.append(request)
        // The one place that starts a task for requests; every wait inside a request is bounded, and `end()` ends what waits for one. It
        // captures no request: what a task captures lives as long as the task.
        Task(executorPreference: loop.executor) {
            while await self.serveNext(through: pipeline, on: loop) {}
        }
    }

    /// The request and its body are gone when this returns, so that a task that waits holds none.
    private func serveNext(through pipeline: InferencePipeline, on loop: LoopContext) async -> Bool {
        guard let request = await next() else { return false }
        let outcome = await pipeline.run(request.value.call, on: loop, for: request)
        request.value.handler.answer(outcome, to: request.value)
        return true
    }

    /// - Returns: `nil` for a task that is not needed.
    private func next() async -> NIOLoopBound<ReadyRequest>? {
        if let arrived = state.value.arriving.popFirst() { return arrived }
        return await withUnsafeContinuation { continuation in
            if state.value.isOver || state.value.idle.count >= Self.idleLimit {
                continuation.resume(returning: nil)
            } else {
                state.value.idle.append(continuation)
            }
        }
    }

    /// Ends the tasks that wait, and each other one after its request. To be called on the loop.
    func end() {
        state.value.isOver = true
        let idle = state.value.idle
        state.value.idle = []
        for runner in idle { runner.resume(returning: nil) }
    }
}
