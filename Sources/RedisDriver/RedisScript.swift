public import NIOCore
import Synchronization

/// A Lua script. Redis keeps it by its digest, so that only the digest travels with each call.
///
/// Redis forgets scripts when it restarts, fails over or is told SCRIPT FLUSH; `evaluate` then loads the script again.
/// That is no repetition of an unknown command: NOSCRIPT says that nothing was executed.
public final class RedisScript: Sendable {
    public let source: String
    /// The digest as Redis computed it; known after the first SCRIPT LOAD. It depends on the source alone, hence holds
    /// on every server.
    private let digest = Mutex<String?>(nil)

    public init(_ source: String) { self.source = source }

    fileprivate var knownDigest: String? { digest.withLock { $0 } }
    fileprivate var loadCommand: RedisCommand { RedisCommand("SCRIPT", "LOAD", source) }

    fileprivate func learn(_ reply: RedisValue) throws(RedisError) -> String {
        guard let text = reply.string, text.utf8.count == 40 else {
            throw .unexpectedReply(expected: "a script's digest")
        }
        digest.withLock { $0 = text }
        return text
    }

    fileprivate func call(_ digest: String, keys: [String], arguments: [[UInt8]]) -> RedisCommand {
        var command = RedisCommand("EVALSHA", digest).appending(keys.count)
        for key in keys { command.append(key) }
        for argument in arguments { command.append(argument) }
        return command
    }

    fileprivate static func isUnknown(_ error: any Error) -> Bool {
        if case .serverError(let reply)? = error as? RedisError { reply.code == "NOSCRIPT" } else { false }
    }
}

extension RedisClient {
    /// Runs a script and returns what it returns.
    /// - Throws: `.serverError` with the script's own error among everything that `send` throws.
    public func evaluate(
        _ script: RedisScript, keys: [String] = [], arguments: [[UInt8]] = []
    ) async throws(RedisError) -> RedisValue {
        if let digest = script.knownDigest {
            do throws(RedisError) {
                return try await send(script.call(digest, keys: keys, arguments: arguments))
            } catch  where RedisScript.isUnknown(error) {
                // Falls through to loading it again, once.
            }
        }
        let digest = try script.learn(try await send(script.loadCommand))
        return try await send(script.call(digest, keys: keys, arguments: arguments))
    }

    /// Runs a script over a connection of this event loop and completes the future on the loop. It fails with a
    /// `RedisError`.
    public func evaluate(
        _ script: RedisScript, keys: [String] = [], arguments: [[UInt8]] = [], on eventLoop: any EventLoop
    ) -> EventLoopFuture<RedisValue> {
        guard let digest = script.knownDigest else {
            return loadAndCall(script, keys: keys, arguments: arguments, on: eventLoop)
        }
        return send(script.call(digest, keys: keys, arguments: arguments), on: eventLoop).flatMapError { error in
            guard RedisScript.isUnknown(error) else { return eventLoop.makeFailedFuture(error) }
            return self.loadAndCall(script, keys: keys, arguments: arguments, on: eventLoop)
        }
    }

    private func loadAndCall(
        _ script: RedisScript, keys: [String], arguments: [[UInt8]], on eventLoop: any EventLoop
    ) -> EventLoopFuture<RedisValue> {
        send(script.loadCommand, on: eventLoop)
            .flatMapThrowing { try script.learn($0) }
            .flatMap { self.send(script.call($0, keys: keys, arguments: arguments), on: eventLoop) }
    }
}
