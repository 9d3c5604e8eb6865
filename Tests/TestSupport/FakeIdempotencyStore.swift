public import Domain
internal import Synchronization

/// Idempotency keys in memory, as strict as the database. Its clock is the test's.
public final class FakeIdempotencyStore: IdempotencyStore {
    private struct Place: Hashable {
        let tenant: TenantID
        let key: IdempotencyKey
    }

    private struct Row {
        var fingerprint: [UInt8]
        var owner: RequestID
        var endsAtNanoseconds: UInt64
        var answer: KeptAnswer?
    }

    private struct State {
        var rows: [Place: Row] = [:]
        var calls = 0
        var renewed: [[RequestID]] = []
        var released: [RequestID] = []
        var isAway = false
    }

    private let state = Mutex(State())
    private let time: any TimeSource
    private let claimMilliseconds: Int64

    public init(time: any TimeSource, claimMilliseconds: Int64 = 10_000) {
        self.time = time
        self.claimMilliseconds = claimMilliseconds
    }

    /// How often any verb was called.
    public var calls: Int { state.withLock { $0.calls } }
    public var renewed: [[RequestID]] { state.withLock { $0.renewed } }
    public var released: [RequestID] { state.withLock { $0.released } }
    /// Keys that are claimed or answered, run out or not.
    public var count: Int { state.withLock { $0.rows.count } }

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    public func claim(_ claim: IdempotencyClaim, fingerprint: [UInt8]) async throws(StoreUnavailable) -> ClaimOutcome {
        let now = time.monotonicNanoseconds
        let outcome = state.withLock { state -> ClaimOutcome? in
            state.calls += 1
            guard !state.isAway else { return nil }
            let place = Place(tenant: claim.tenantID, key: claim.key)
            if let row = state.rows[place], row.endsAtNanoseconds > now {
                guard row.fingerprint == fingerprint else { return .otherRequest }
                if let answer = row.answer { return .answered(answer) }
                return row.owner == claim.requestID ? .claimed : .inFlight
            }
            state.rows[place] = Row(
                fingerprint: fingerprint, owner: claim.requestID, endsAtNanoseconds: end(after: claimMilliseconds, now))
            return .claimed
        }
        guard let outcome else { throw StoreUnavailable(cause: "the keys are away") }
        return outcome
    }

    public func renew(_ claims: [IdempotencyClaim]) async throws(StoreUnavailable) {
        let now = time.monotonicNanoseconds
        let isAway = state.withLock { state -> Bool in
            state.calls += 1
            guard !state.isAway else { return true }
            state.renewed.append(claims.map(\.requestID))
            for claim in claims {
                let place = Place(tenant: claim.tenantID, key: claim.key)
                guard let row = state.rows[place], row.owner == claim.requestID, row.answer == nil else { continue }
                state.rows[place]?.endsAtNanoseconds = end(after: claimMilliseconds, now)
            }
            return false
        }
        if isAway { throw StoreUnavailable(cause: "the keys are away") }
    }

    public func release(_ claim: IdempotencyClaim) async throws(StoreUnavailable) {
        let isAway = state.withLock { state -> Bool in
            state.calls += 1
            guard !state.isAway else { return true }
            state.released.append(claim.requestID)
            let place = Place(tenant: claim.tenantID, key: claim.key)
            if let row = state.rows[place], row.owner == claim.requestID, row.answer == nil { state.rows[place] = nil }
            return false
        }
        if isAway { throw StoreUnavailable(cause: "the keys are away") }
    }

    /// What settling does: the claim becomes the answer.
    /// - Returns: false when the claim is another attempt's, or gone.
    public func answer(_ answer: ClaimedAnswer, status: Int) -> Bool {
        let now = time.monotonicNanoseconds
        return state.withLock { state in
            let place = Place(tenant: answer.claim.tenantID, key: answer.claim.key)
            guard state.rows[place]?.owner == answer.claim.requestID else { return false }
            state.rows[place]?.answer = KeptAnswer(
                requestID: answer.claim.requestID, status: status,
                fields: String(decoding: answer.fields, as: UTF8.self), body: answer.body)
            state.rows[place]?.endsAtNanoseconds = end(after: 48 * 3_600_000, now)
            return true
        }
    }

    private func end(after milliseconds: Int64, _ now: UInt64) -> UInt64 { now + UInt64(milliseconds) * 1_000_000 }
}
