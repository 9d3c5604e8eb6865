internal import Domain
internal import LedgerProof

extension InferencePipeline {
    /// A request whose quota is held; from here on it is settled or voided.
    ///
    /// A class, because every stage takes it: to copy its parts into each stage's frame would cost more than to allocate it.
    final class HeldRequest: Sendable {
        let call: InferenceCall
        let principal: Principal
        /// By which it is charged: the one in force when it arrived.
        let tierVersionID: TierVersionID
        let request: InferenceRequest
        let route: ResolvedRoute
        let take: RateTake?
        let hold: Hold?
        /// By the monotonic clock: when it was admitted.
        let heldAtNanoseconds: UInt64
        let bound: Int64
        let claim: IdempotencyClaim?
        /// `nil` where the request says nothing about the cache.
        let cacheInstruction: CacheInstruction?
        let tags: RequestTags?
        /// Filled with the commit; `nil` where nobody wants a receipt.
        let receipt: ReceiptBox?

        init(
            call: InferenceCall, principal: Principal, request: InferenceRequest, route: ResolvedRoute, take: RateTake?,
            hold: Hold?, heldAtNanoseconds: UInt64, bound: Int64, claim: IdempotencyClaim?,
            cacheInstruction: CacheInstruction?, tags: RequestTags?, receipt: ReceiptBox? = nil
        ) {
            self.call = call
            self.principal = principal
            tierVersionID = principal.tierVersionID(at: call.receivedAt)
            self.request = request
            self.route = route
            self.take = take
            self.hold = hold
            self.heldAtNanoseconds = heldAtNanoseconds
            self.bound = bound
            self.claim = claim
            self.cacheInstruction = cacheInstruction
            self.tags = tags
            self.receipt = receipt
        }
    }
}
