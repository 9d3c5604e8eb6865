import Domain
import Storage
import TestSupport
import Testing

/// A store of idempotency keys with a settlement and a clock that a test moves.
protocol KeyStoreUnderTest: Sendable {
    var store: any IdempotencyStore { get }
    /// Settles a claimed request.
    /// - Returns: false when its claim was lost.
    func settle(_ answer: ClaimedAnswer) async throws -> Bool
    /// Lets time pass for every key.
    func pass(milliseconds: Int64) async throws
}

struct MemoryKeys: KeyStoreUnderTest {
    private let time = ManualTime("2026-03-15T12:00:00Z")
    private let keys: FakeIdempotencyStore
    var store: any IdempotencyStore { keys }

    init() { keys = FakeIdempotencyStore(time: time, claimMilliseconds: 600_000) }

    func settle(_ answer: ClaimedAnswer) async throws -> Bool { keys.answer(answer, status: 200) }
    func pass(milliseconds: Int64) async throws { time.advance(milliseconds: milliseconds) }
}

struct DatabaseKeys: KeyStoreUnderTest {
    private let harness: StorageHarness
    let store: any IdempotencyStore

    init(_ harness: StorageHarness, _ store: any IdempotencyStore) {
        self.harness = harness
        self.store = store
    }

    func settle(_ answer: ClaimedAnswer) async throws -> Bool {
        let settlement = Seed.settlement(
            id: answer.claim.requestID, tenant: answer.claim.tenantID,
            key: answer.claim.tenantID == Seed.tenantA ? Seed.keyA : Seed.keyB, answer: answer)
        return try await harness.settleClaimed([settlement]).isEmpty
    }

    func pass(milliseconds: Int64) async throws {
        try await harness.run(
            "UPDATE idempotency_keys SET expires_at = expires_at - \(milliseconds) * interval '1 millisecond'")
    }
}

/// What every store of idempotency keys does.
enum KeyStoreConformance {
    private static let one = [UInt8](repeating: 1, count: 32)
    private static let two = [UInt8](repeating: 2, count: 32)

    static func check(_ keys: some KeyStoreUnderTest) async throws {
        try await claimsOnce(keys)
        try await answers(keys)
        try await releases(keys)
        try await runsOut(keys)
    }

    private static func claimsOnce(_ keys: some KeyStoreUnderTest) async throws {
        let first = IdempotencyClaim.new("once")
        #expect(try await keys.store.claim(first, fingerprint: one) == .claimed)
        #expect(try await keys.store.claim(first, fingerprint: one) == .claimed, "asking twice is asking once")
        #expect(try await keys.store.claim(.new("once"), fingerprint: one) == .inFlight)
        #expect(try await keys.store.claim(.new("once"), fingerprint: two) == .otherRequest)
        #expect(try await keys.store.claim(.new("Once"), fingerprint: two) == .claimed, "case counts")
        #expect(try await keys.store.claim(.new("once", tenant: Seed.tenantB), fingerprint: two) == .claimed)
    }

    private static func answers(_ keys: some KeyStoreUnderTest) async throws {
        let claim = IdempotencyClaim.new("answered")
        #expect(try await keys.store.claim(claim, fingerprint: one) == .claimed)
        let answer = ClaimedAnswer(claim: claim, fields: Array("x-a: b".utf8), body: [0, 255, 13, 10])
        #expect(try await keys.settle(answer))
        let kept = ClaimOutcome.answered(
            KeptAnswer(requestID: claim.requestID, status: 200, fields: "x-a: b", body: [0, 255, 13, 10]))
        for _ in 0..<2 { #expect(try await keys.store.claim(.new("answered"), fingerprint: one) == kept) }
        #expect(try await keys.store.claim(.new("answered"), fingerprint: two) == .otherRequest)
        try await keys.store.release(claim)
        try await keys.store.renew([claim])
        #expect(try await keys.store.claim(.new("answered"), fingerprint: one) == kept, "an answer stays")
        try await keys.pass(milliseconds: 48 * 3_600_000 - 60_000)
        #expect(try await keys.store.claim(.new("answered"), fingerprint: one) == kept)
        try await keys.pass(milliseconds: 61_000)
        #expect(try await keys.store.claim(.new("answered"), fingerprint: two) == .claimed, "after 48 hours it is new")
    }

    private static func releases(_ keys: some KeyStoreUnderTest) async throws {
        let first = IdempotencyClaim.new("released")
        #expect(try await keys.store.claim(first, fingerprint: one) == .claimed)
        try await keys.store.release(.new("released"))
        #expect(
            try await keys.store.claim(.new("released"), fingerprint: one) == .inFlight, "it is not another's to give")
        try await keys.store.release(first)
        let second = IdempotencyClaim.new("released")
        #expect(try await keys.store.claim(second, fingerprint: two) == .claimed)
        try await keys.store.release(first)
        #expect(try await keys.store.claim(.new("released"), fingerprint: two) == .inFlight)
        #expect(try await !keys.settle(ClaimedAnswer(claim: first, fields: [], body: [])))
        #expect(try await keys.settle(ClaimedAnswer(claim: second, fields: [], body: [])))
    }

    private static func runsOut(_ keys: some KeyStoreUnderTest) async throws {
        let (kept, left) = (IdempotencyClaim.new("kept"), IdempotencyClaim.new("left"))
        for claim in [kept, left] { #expect(try await keys.store.claim(claim, fingerprint: one) == .claimed) }
        try await keys.pass(milliseconds: 500_000)
        try await keys.store.renew([kept])
        try await keys.pass(milliseconds: 150_000)
        #expect(try await keys.store.claim(.new("kept"), fingerprint: one) == .inFlight)
        let second = IdempotencyClaim.new("left")
        #expect(try await keys.store.claim(second, fingerprint: two) == .claimed)
        try await keys.store.renew([left])
        #expect(try await !keys.settle(ClaimedAnswer(claim: left, fields: [], body: [])), "the fence")
        #expect(try await keys.settle(ClaimedAnswer(claim: second, fields: [], body: [])))
    }
}

extension IdempotencyClaim {
    /// A claim of a new attempt.
    static func new(_ key: String, tenant: TenantID = Seed.tenantA) -> IdempotencyClaim {
        guard let key = IdempotencyKey(field: key) else { preconditionFailure("\(key) is no key") }
        return IdempotencyClaim(tenantID: tenant, key: key, requestID: Seed.newRequestID())
    }
}

extension StorageHarness {
    /// Runs a body with the store of idempotency keys of a gateway.
    func withClaims<T: Sendable>(
        connections: Int = 4, milliseconds: Int64 = 600_000, _ body: (ClaimStore) async throws -> T
    ) async throws -> T {
        try await withPool("weir_writer", connections: connections) { pool in
            try await body(ClaimStore(pool: pool, gatewayID: Seed.gateway, claimMilliseconds: milliseconds))
        }
    }

    /// Settles a batch with claims in it, as a writer does, and gives what was refused.
    func settleClaimed(_ batch: [Settlement], again: Bool = false) async throws -> [RequestID: SettlementResult] {
        try await onSession("weir_writer") {
            try SettlementText.writeClaimed(batch, gateway: Seed.gateway, again: again, on: $0)
        }
    }
}
