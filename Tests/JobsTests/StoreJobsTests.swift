import Domain
import Jobs
import ServiceLifecycle
import Synchronization
import Testing

@Suite("the jobs that keep the store in order")
struct StoreJobsTests {
    private func run(_ store: FakeStore, until condition: (FakeStore) async -> Void) async throws {
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: StoreJobs.all(store, logger: store.log.logger), logger: quietLogger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await condition(store)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    @Test("all that is overdue is reaped in one pass")
    func reapsAll() async throws {
        let store = FakeStore(overdue: 25)
        try await run(store) { await $0.reaps.reach(26) }
        #expect(store.overdue == 0)
    }

    @Test("leases that cannot be booked are errors in the log, and do not end the pass")
    func unbookable() async throws {
        let store = FakeStore(overdue: 10, failsReaping: true)
        try await run(store) { await $0.reaps.reach(11) }
        #expect(store.overdue == 0)
        await store.log.reachErrors(5)
    }

    @Test("usage is rolled up, and partitions are made, from the start")
    func startsAtOnce() async throws {
        let store = FakeStore()
        try await run(store) {
            await $0.rollUps.reach(1)
            await $0.partitions.reach(1)
            await $0.strayChecks.reach(1)
        }
        #expect(store.log.errors == 0)
    }

    @Test(
        "answers that were kept long enough are removed in small batches, until one is not full or the pass is long enough",
        arguments: [(0, 1, 0), (2_500, 3, 0), (1_000, 2, 0), (100_500, 100, 500)] as [(Int, Int, Int)])
    func removesExpiredKeys(expired: Int, batches: Int, left: Int) async throws {
        let store = FakeStore(expired: expired)
        try await run(store) { await $0.removals.reach(batches) }
        #expect(store.expiredKeys == left)
    }

    @Test("rows in a default partition are an error in the log")
    func strayRows() async throws {
        let store = FakeStore(hasStrayRows: true)
        try await run(store) { await $0.strayChecks.reach(1) }
        await store.log.reachErrors(1)
    }

    @Test("that partitions cannot be made does not hide that rows have strayed, which may be the cause")
    func strayRowsWithFailure() async throws {
        let store = FakeStore(hasStrayRows: true, failsPartitions: true)
        try await run(store) {
            await $0.strayChecks.reach(1)
            await $0.partitions.reach(1)
        }
        #expect(store.log.errors == 1)
    }

    @Test("a failing job leaves the others at work, and goes on itself")
    func failingRollUp() async throws {
        let store = FakeStore(overdue: 3, failsRollUp: true)
        try await run(store) {
            await $0.rollUps.reach(2)
            await $0.reaps.reach(4)
        }
        #expect(store.overdue == 0)
    }
}

/// A store that counts.
private final class FakeStore: Housekeeping {
    let rollUps = Attempts()
    let reaps = Attempts()
    let partitions = Attempts()
    let strayChecks = Attempts()
    let log = CountedLog()
    let removals = Attempts()
    private let left: Mutex<Int>
    private let expired: Mutex<Int>
    private let hasStray: Bool
    private let failsPartitions: Bool
    private let failsRollUp: Bool
    private let failsReaping: Bool

    init(
        overdue: Int = 0, expired: Int = 0, hasStrayRows: Bool = false, failsPartitions: Bool = false,
        failsRollUp: Bool = false, failsReaping: Bool = false
    ) {
        self.failsReaping = failsReaping
        left = Mutex(overdue)
        self.expired = Mutex(expired)
        hasStray = hasStrayRows
        self.failsPartitions = failsPartitions
        self.failsRollUp = failsRollUp
    }

    var overdue: Int { left.withLock { $0 } }
    var expiredKeys: Int { expired.withLock { $0 } }

    func rollUpUsage() async throws(StoreUnavailable) -> Int64 {
        _ = rollUps.next()
        if failsRollUp { throw StoreUnavailable(cause: "away") }
        return 1
    }

    func reapLease() async throws(StoreUnavailable) -> LeaseReaping? {
        defer { _ = reaps.next() }
        return left.withLock { left in
            guard left > 0 else { return nil }
            left -= 1
            return LeaseReaping(
                leaseID: LeaseID(high: 1, low: UInt64(left)),
                outcome: failsReaping && left % 2 == 0 ? .failed(cause: "unbookable") : .closed)
        }
    }

    func ensurePartitions() async throws(StoreUnavailable) -> Int {
        _ = partitions.next()
        if failsPartitions { throw StoreUnavailable(cause: "away") }
        return 0
    }

    func removeExpiredKeys(limit: Int) async throws(StoreUnavailable) -> Int {
        defer { _ = removals.next() }
        return expired.withLock { expired in
            let count = min(limit, expired)
            expired -= count
            return count
        }
    }

    func busyMicroseconds(since start: Timestamp) async throws(StoreUnavailable) -> [String: Int64] { [:] }

    func hasStrayRows() async throws(StoreUnavailable) -> Bool {
        _ = strayChecks.next()
        return hasStray
    }
}
