internal import NIOCore
import NIOPosix

extension RedisClient {
    /// Runs a script and waits for what it returns, so many milliseconds at most; for a caller who can do without the answer.
    ///
    /// An answer that comes later is dropped, and the connection stays: only the command's own deadline ends one that is silent. Time in
    /// which this event loop was busy with other things counts for nothing: it could not have read the answer.
    /// - Throws: `.timeout` among everything that `evaluate` throws.
    public func evaluate(
        _ script: RedisScript, keys: [String], arguments: [[UInt8]], patienceMilliseconds: Int64
    ) async throws(RedisError) -> RedisValue {
        let eventLoop = MultiThreadedEventLoopGroup.currentEventLoop ?? homeLoop
        let promise = eventLoop.makePromise(of: RedisValue.self)
        evaluate(script, keys: keys, arguments: arguments, on: eventLoop).cascade(to: promise)
        let patience = Patience(promise: promise, eventLoop: eventLoop, milliseconds: patienceMilliseconds)
        patience.wait(again: 20)
        do {
            return try await promise.futureResult.get()
        } catch let error as RedisError {
            throw error
        } catch {
            throw .connectionLost
        }
    }

    /// Runs a script without waiting for it.
    /// - Parameter completion: is told once, on some event loop, what went wrong, or nothing.
    public func evaluate(
        _ script: RedisScript, keys: [String], arguments: [[UInt8]],
        completion: @escaping @Sendable (RedisError?) -> Void
    ) {
        let eventLoop = MultiThreadedEventLoopGroup.currentEventLoop ?? homeLoop
        evaluate(script, keys: keys, arguments: arguments, on: eventLoop).whenComplete { result in
            switch result {
            case .success: completion(nil)
            case .failure(let error): completion(error as? RedisError ?? .connectionLost)
            }
        }
    }
}

/// The end of somebody's patience on an event loop.
private struct Patience: Sendable {
    /// So late a timer comes only where its loop had other things to do.
    private static let lateness = TimeAmount.milliseconds(3)

    let promise: EventLoopPromise<RedisValue>
    let eventLoop: any EventLoop
    let milliseconds: Int64

    /// - Parameter again: how many times the wait may begin anew because the loop was busy.
    func wait(again: Int) {
        let due = NIODeadline.now() + .milliseconds(milliseconds)
        let timer = eventLoop.scheduleTask(deadline: due) {
            if again > 0, NIODeadline.now() - due > Self.lateness {
                wait(again: again - 1)
            } else {
                promise.fail(RedisError.timeout)
            }
        }
        promise.futureResult.whenComplete { _ in timer.cancel() }
    }
}
