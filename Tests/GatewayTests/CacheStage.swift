import Domain
import HTTPListener
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

/// What tests of the cache ask, and what they ask it of.
enum CacheStage {
    /// Runs requests with what they say about the cache.
    static func run(
        _ parts: Installation, _ fields: [CacheField] = [], body: String = Installation.body, key: APIKey? = nil
    ) async throws -> InferenceOutcome {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let loop = try await eventLoop.submit { LoopContext(eventLoop: eventLoop) }.get()
        let id = try await eventLoop.submit { loop.makeRequestID(at: parts.time.now) }.get()
        let call = InferenceCall(
            requestID: id, receivedAt: parts.time.now, receivedNanoseconds: parts.time.monotonicNanoseconds,
            credentials: .one((key ?? parts.key).text), body: ByteBuffer(string: body), trace: nil, cacheFields: fields)
        let pipeline = parts.pipeline
        return await Task(executorPreference: loop.executor) { await pipeline.run(call, on: loop) }.value
    }

    static func refusal(_ outcome: InferenceOutcome) -> Refusal? {
        if case .refused(let refusal, _) = outcome { refusal } else { nil }
    }

    static func prediction(_ outcome: InferenceOutcome) -> Prediction? {
        if case .answered(let prediction) = outcome { prediction } else { nil }
    }

    static func installation(
        _ policy: CachePolicy = CachePolicy(isOn: true), backend: FakeBackend = FakeBackend(),
        shared: (any SharedPredictionCache)? = nil, store: FakeCacheStore = FakeCacheStore(), percent: Int64 = 100,
        time: ManualTime = ManualTime(Installation.noon)
    ) async -> Installation {
        await Installation(
            time: time, route: Installation.route(cache: policy), backend: backend, sharedCache: shared,
            cacheStore: store, cacheHitTokenPercent: percent)
    }
}

extension Array where Element: Sendable {
    func asyncMap<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
