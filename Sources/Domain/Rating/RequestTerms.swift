/// Whether a request of some kind is counted as one.
public enum RequestCharge: String, Hashable, Sendable, CaseIterable {
    case charged
    case free
}

/// What a tier version says of requests that no worker answered. It decides when a request settles; the ledger has what came of it.
public struct RequestTerms: Hashable, Sendable {
    /// Of an answer from the cache; its tokens have a term of their own.
    public var cacheHit: RequestCharge
    /// Of a request whose input a worker has refused. Whatever else fails is free.
    public var failure: RequestCharge

    public init(cacheHit: RequestCharge = .charged, failure: RequestCharge = .free) {
        self.cacheHit = cacheHit
        self.failure = failure
    }

    /// Of a tier that says nothing.
    public static let standard = RequestTerms()
}
