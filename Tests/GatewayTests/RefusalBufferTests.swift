import Domain
import Logging
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("Refusals that are kept") struct RefusalBufferTests {
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private static let noon = Timestamp(microsecondsSince1970: 1_772_366_400_000_000)

    private static let refusal = Refusal.rateLimited(
        RateRefusal(
            scope: .tenant, unit: .requests, limit: RateLimit(amount: 60, burst: 2), remaining: 0, requested: 1,
            waitMilliseconds: 1_000, resetSeconds: 2))

    private func note(
        _ buffer: RefusalBuffer, _ number: UInt64, tenant: UInt64 = 1, refusal: Refusal = refusal, second: UInt64 = 0
    ) {
        buffer.note(
            refusal, of: RequestID(high: second, low: number),
            for: Installation.principal(tenant: TenantID(high: 7, low: tenant)), model: "iris", at: Self.noon,
            monotonicNanoseconds: second * 1_000_000_000 + number)
    }

    @Test("of each tenant and second only the first are kept, and another tenant has its own")
    func bounded() async {
        let (buffer, store) = (RefusalBuffer(), FakeRefusals())
        for number in 0..<50 { note(buffer, UInt64(number)) }
        note(buffer, 1, tenant: 2)
        for number in 0..<50 { note(buffer, UInt64(number), second: 1) }
        await buffer.flush(to: store, logger: Self.logger)
        #expect(store.kept.count == 21)
        #expect(store.kept.count { $0.tenantID == TenantID(high: 7, low: 2) } == 1)
        #expect(store.kept.first?.numbers.policy == "rpm" && store.kept.first?.code == .rateLimited)
        await buffer.flush(to: store, logger: Self.logger)
        #expect(store.batches.map(\.count) == [21], "nothing is written twice, and nothing without refusals")
    }

    @Test("the memory is bounded over all tenants, and a statement in rows")
    func boundedOverAll() async {
        let (buffer, store) = (RefusalBuffer(), FakeRefusals())
        for tenant in 0..<5_000 { note(buffer, 1, tenant: UInt64(tenant)) }
        await buffer.flush(to: store, logger: Self.logger)
        #expect(store.batches.map(\.count) == [1_000, 1_000, 1_000, 1_000, 96])
    }

    @Test("only what a quota or a rate limit refused is kept")
    func others() async {
        let (buffer, store) = (RefusalBuffer(), FakeRefusals())
        note(buffer, 1, refusal: Refusal(.overloaded, "x"))
        note(buffer, 2, refusal: Refusal(.modelNotFound, "x"))
        await buffer.flush(to: store, logger: Self.logger)
        #expect(store.batches.isEmpty)
    }

    @Test("what cannot be written is forgotten, and the next refusals are kept")
    func away() async {
        let (buffer, store) = (RefusalBuffer(), FakeRefusals())
        store.isAway = true
        note(buffer, 1)
        await buffer.flush(to: store, logger: Self.logger)
        store.isAway = false
        note(buffer, 2)
        await buffer.flush(to: store, logger: Self.logger)
        #expect(store.kept.map(\.requestID.low) == [2])
    }
}

private final class FakeRefusals: RefusalStore {
    private let state = Mutex((batches: [[RefusalRecord]](), isAway: false))

    var batches: [[RefusalRecord]] { state.withLock { $0.batches } }
    var kept: [RefusalRecord] { batches.flatMap { $0 } }
    var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    func keep(_ refusals: [RefusalRecord]) async throws(StoreUnavailable) {
        guard !isAway else { throw StoreUnavailable(cause: "away") }
        state.withLock { $0.batches.append(refusals) }
    }
}
