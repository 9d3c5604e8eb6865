import NIOCore
import Synchronization

/// The open connections of a worker: bounds their number, and empties them at shutdown.
final class ConnectionRegistry: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        /// Set when draining begins; fulfilled when the last connection has closed.
        var drained: EventLoopPromise<Void>?
    }

    private let state = Mutex(State())
    private let maximumConnections: Int

    init(maximumConnections: Int) {
        self.maximumConnections = maximumConnections
    }

    /// - Returns: whether the connection may stay. It may not beyond the bound, nor once draining has begun.
    func admit(_ channel: any Channel) -> Bool {
        let isAdmitted = state.withLock { state in
            guard state.drained == nil, state.channels.count < maximumConnections else { return false }
            state.channels[ObjectIdentifier(channel)] = channel
            return true
        }
        if isAdmitted {
            channel.closeFuture.whenComplete { _ in self.remove(channel) }
        }
        return isAdmitted
    }

    /// Lets every connection finish the answer that is due on it and close, and closes what is left after the timeout.
    func drain(on eventLoop: any EventLoop, timeout: TimeAmount) async {
        let promise = eventLoop.makePromise(of: Void.self)
        let channels = state.withLock { state in
            state.drained = promise
            return Array(state.channels.values)
        }
        if channels.isEmpty { promise.succeed() }
        for channel in channels {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
        let closing = eventLoop.scheduleTask(in: timeout) {
            for channel in channels { channel.close(promise: nil) }
        }
        // Cannot fail: nothing but the removal of the last connection completes it.
        try? await promise.futureResult.get()
        closing.cancel()
    }

    private func remove(_ channel: any Channel) {
        let drained = state.withLock { state -> EventLoopPromise<Void>? in
            state.channels.removeValue(forKey: ObjectIdentifier(channel))
            return state.channels.isEmpty ? state.drained : nil
        }
        drained?.succeed()
    }
}
