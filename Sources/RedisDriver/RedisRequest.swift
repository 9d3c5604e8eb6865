internal import NIOCore

/// A command on its way: its bytes, and who waits for the reply.
struct RedisRequest: Sendable {
    enum Completion: Sendable {
        case promise(EventLoopPromise<RedisValue>)
        case continuation(CheckedContinuation<Result<RedisValue, RedisError>, Never>)
    }

    let bytes: ByteBuffer
    let completion: Completion

    func complete(_ result: Result<RedisValue, RedisError>) { completion.complete(result) }
}

extension RedisRequest.Completion {
    func complete(_ result: Result<RedisValue, RedisError>) {
        switch (self, result) {
        case (.promise(let promise), .success(let value)): promise.succeed(value)
        case (.promise(let promise), .failure(let error)): promise.fail(error)
        case (.continuation(let continuation), _): continuation.resume(returning: result)
        }
    }
}
