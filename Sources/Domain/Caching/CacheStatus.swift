/// How the cache took part in an answer, for `Cache-Status` (RFC 9211) and the books.
public enum CacheStatus: Hashable, Sendable {
    /// Why the answer came from a worker (RFC 9211, section 2.2).
    public enum Reason: String, Sendable {
        /// There was nothing.
        case uriMiss = "uri-miss"
        /// There was, but the request wanted no such answer.
        case request
        /// The cache was not asked.
        case bypass
    }

    /// - Parameters:
    ///   - ttlSeconds: that the entry has left.
    ///   - ageSeconds: since a worker gave the answer.
    case hit(ttlSeconds: Int64, ageSeconds: Int64)
    /// Another request was asking the same; this one got its answer. No worker was called for it.
    case collapsed(ttlSeconds: Int64)
    case forwarded(Reason, isStored: Bool)

    /// Whether no worker was called.
    public var isServedFromCache: Bool {
        switch self {
        case .hit, .collapsed: true
        case .forwarded: false
        }
    }
}

extension Usage {
    /// What a hit is charged for an answer of this usage, by the tier's percentage; each count is rounded down, so that nobody pays for a part
    /// of a token. A request is a request in any case.
    /// - Parameter percent: 0 to 100.
    public func chargedForHit(percent: Int64) -> Usage {
        func share(_ count: Int64) -> Int64 { Int64(clamping: Int128(count) * Int128(min(max(percent, 0), 100)) / 100) }
        return Usage(
            inputTokens: share(inputTokens), cachedInputTokens: share(cachedInputTokens),
            outputTokens: share(outputTokens), source: .cache)
    }
}
