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
                services: StoreJobs.all(store, keepHours: 48, time: store.time, logger: store.log.logger),
                logger: quietLogger))
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
        "answers that were kept long enough are removed in small batches, until one is not full or the pass took its time",
        arguments: [(0, 1, 0), (2_500, 3, 0), (1_000, 2, 0), (400_500, 401, 0), (460_500, 450, 10_500)]
            as [(Int, Int, Int)])
    func removesExpiredKeys(expired: Int, batches: Int, left: Int) async throws {
        let store = FakeStore(expired: expired)
        try await run(store) { await $0.removals.reach(batches) }
        #expect(store.expiredKeys == left)
    }

    @Test("closed leases and refusals go the same way, as old as it was said")
    func removesOldRows() async throws {
        let store = FakeStore(oldLeases: 2_500, oldRefusals: 1_500)
        try await run(store) {
            await $0.leaseRemovals.reach(3)
            await $0.refusalRemovals.reach(2)
        }
        #expect(store.oldLeases == 0 && store.oldRefusals == 0)
        #expect(store.keptHours == [48])
    }

    @Test("what a look finds is raised, and a look that finds nothing raises nothing")
    func quotaEvents() async throws {
        let store = FakeStore(standings: 2)
        try await run(store) { await $0.looks.reach(2) }
        #expect(store.raised == [2])
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
    let leaseRemovals = Attempts()
    let refusalRemovals = Attempts()
    let looks = Attempts()
    /// Each removal of keys takes a tenth of a second.
    let time = SteppedTime()
    private let old: Mutex<(leases: Int, refusals: Int, standings: Int, raised: [Int], hours: Set<Int>)>
    private let left: Mutex<Int>
    private let expired: Mutex<Int>
    private let hasStray: Bool
    private let failsPartitions: Bool
    private let failsRollUp: Bool
    private let failsReaping: Bool

    init(
        overdue: Int = 0, expired: Int = 0, oldLeases: Int = 0, oldRefusals: Int = 0, standings: Int = 0,
        hasStrayRows: Bool = false, failsPartitions: Bool = false,
        failsRollUp: Bool = false, failsReaping: Bool = false
    ) {
        self.failsReaping = failsReaping
        old = Mutex((oldLeases, oldRefusals, standings, [], []))
        left = Mutex(overdue)
        self.expired = Mutex(expired)
        hasStray = hasStrayRows
        self.failsPartitions = failsPartitions
        self.failsRollUp = failsRollUp
    }

    var overdue: Int { left.withLock { $0 } }
    var expiredKeys: Int { expired.withLock { $0 } }

    var oldLeases: Int { old.withLock { $0.leases } }
    var oldRefusals: Int { old.withLock { $0.refusals } }
    var raised: [Int] { old.withLock { $0.raised } }
    var keptHours: Set<Int> { old.withLock { $0.hours } }

    func lookAtQuotas() async throws(StoreUnavailable) -> [QuotaStanding] {
        defer { _ = looks.next() }
        let count = old.withLock { old in
            defer { old.standings = 0 }
            return old.standings
        }
        return (0..<count).map { number in
            QuotaStanding(
                quotaID: QuotaID(high: 1, low: UInt64(number)), tenantID: TenantID(high: 0, low: 1), mode: .soft,
                periodStart: time.now, periodEnd: time.now.advanced(byMilliseconds: 60_000), amount: 10, allowed: 10,
                used: 5, thresholds: .standard, raised: [], seenAt: time.now)
        }
    }

    func raiseEvents(_ standings: [QuotaStanding]) async throws(StoreUnavailable) -> [QuotaEvent] {
        old.withLock { $0.raised.append(standings.count) }
        var random = SystemRandomNumberGenerator()
        return standings.map { QuotaEvent($0, thresholdPercent: 50, using: &random) }
    }

    func removeClosedLeases(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int {
        defer { _ = leaseRemovals.next() }
        return old.withLock { old in
            old.hours.insert(keepHours)
            let count = min(limit, old.leases)
            old.leases -= count
            return count
        }
    }

    func removeRefusals(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int {
        defer { _ = refusalRemovals.next() }
        return old.withLock { old in
            old.hours.insert(keepHours)
            let count = min(limit, old.refusals)
            old.refusals -= count
            return count
        }
    }

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

    func removeExpiredPredictions(limit: Int) async throws(StoreUnavailable) -> Int { 0 }
    func removeExcessPredictions(rowsPerTenant: Int, limit: Int) async throws(StoreUnavailable) -> Int { 0 }
    func removeExpiredResults(limit: Int) async throws(StoreUnavailable) -> Int { 0 }
    func eraseKept(limit: Int) async throws(StoreUnavailable) -> Int { 0 }

    func removeExpiredKeys(limit: Int) async throws(StoreUnavailable) -> Int {
        defer {
            time.advance(milliseconds: 100)
            _ = removals.next()
        }
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

/// Stands still until it is moved on.
private final class SteppedTime: TimeSource {
    private let nanoseconds = Mutex<UInt64>(1)

    var now: Timestamp { Timestamp(microsecondsSince1970: 1_772_366_400_000_000) }
    var monotonicNanoseconds: UInt64 { nanoseconds.withLock { $0 } }

    func advance(milliseconds: UInt64) { nanoseconds.withLock { $0 += milliseconds * 1_000_000 } }
}
