/// What claiming a key gave.
public enum ClaimOutcome: Sendable, Equatable {
    /// The key is this attempt's: it may work, and its settlement is refused once another attempt has taken over.
    case claimed
    /// A request with this key was charged; this is its answer.
    case answered(KeptAnswer)
    /// Another attempt holds the key.
    case inFlight
    /// The key stands for another operation or another body.
    case otherRequest
}

/// The keys of all tenants, each claimed by one attempt at a time on any number of gateways. Every verb is one atomic statement. The answer is
/// kept by the ``Settler``, in the transaction that charges for it.
public protocol IdempotencyStore: Sendable {
    /// Claims a key for the claim's attempt, unless it is another's. A key whose holder has let its claim run out, and one whose answer is
    /// older than it is kept, is nobody's.
    /// - Parameter fingerprint: 32 bytes that differ for every other operation and body.
    func claim(_ claim: IdempotencyClaim, fingerprint: [UInt8]) async throws(StoreUnavailable) -> ClaimOutcome
    /// Moves the ends of claims that are still their attempts'.
    func renew(_ claims: [IdempotencyClaim]) async throws(StoreUnavailable)
    /// Gives a claim back whose attempt was not charged; an answer, and a claim that is another attempt's by now, stay as they are.
    func release(_ claim: IdempotencyClaim) async throws(StoreUnavailable)
}
