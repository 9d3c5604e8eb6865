import Domain
import Testing

@Suite("How many replicas a model needs")
struct ReplicaDemandTests {
    private static let second: Int64 = 1_000_000

    @Test(
        "busy time divided by time, by requests at once and by how much is to be used, rounded up",
        arguments: [
            (busy: 0, seconds: 900, concurrency: 1, percent: 70, expected: 0),
            (busy: 1, seconds: 900, concurrency: 1, percent: 100, expected: 1),
            (busy: 900_000_000, seconds: 900, concurrency: 1, percent: 100, expected: 1),
            (busy: 900_000_001, seconds: 900, concurrency: 1, percent: 100, expected: 2),
            (busy: 630_000_000, seconds: 900, concurrency: 1, percent: 70, expected: 1),
            (busy: 630_000_001, seconds: 900, concurrency: 1, percent: 70, expected: 2),
            (busy: 9_000_000_000, seconds: 900, concurrency: 4, percent: 50, expected: 5),
            (busy: .max, seconds: 900, concurrency: 1, percent: 1, expected: 1_000),
            (busy: .max, seconds: 0, concurrency: 1, percent: 1, expected: 1_000),
            (busy: -5, seconds: 900, concurrency: 1, percent: 70, expected: 0),
        ] as [(busy: Int64, seconds: Int64, concurrency: Int64, percent: Int64, expected: Int64)])
    func figure(busy: Int64, seconds: Int64, concurrency: Int64, percent: Int64, expected: Int64) {
        let demand = ReplicaDemand(
            concurrency: concurrency, targetPercent: percent, minimumReplicas: 0, maximumReplicas: 1_000)
        #expect(demand.desired(busyMicroseconds: busy, inMicroseconds: seconds * Self.second) == expected)
    }

    @Test("numbers without sense do not end the process")
    func extremes() {
        let demand = ReplicaDemand(
            concurrency: .max, targetPercent: .max, minimumReplicas: 3, maximumReplicas: .min)
        #expect(demand.replicas == 3...3 && demand.targetPercent == 100)
        #expect(demand.desired(busyMicroseconds: .max, inMicroseconds: .max) == 3)
        let idle = ReplicaDemand(concurrency: 0, targetPercent: 0, minimumReplicas: -1, maximumReplicas: 2)
        #expect(idle.desired(busyMicroseconds: .min, inMicroseconds: .min) == 0)
        #expect(idle.desired(busyMicroseconds: 1, inMicroseconds: .max) == 1)
    }

    @Test("the bounds hold")
    func bounds() {
        let demand = ReplicaDemand(concurrency: 1, targetPercent: 100, minimumReplicas: 2, maximumReplicas: 4)
        #expect(demand.desired(busyMicroseconds: 0, inMicroseconds: Self.second) == 2)
        #expect(demand.desired(busyMicroseconds: 3 * Self.second, inMicroseconds: Self.second) == 3)
        #expect(demand.desired(busyMicroseconds: 9 * Self.second, inMicroseconds: Self.second) == 4)
    }

    @Test(
        "the stretch that counts begins with the last whole quarter",
        arguments: [
            ("2026-03-01T12:00:00Z", "2026-03-01T11:45:00Z"), ("2026-03-01T12:14:59.999999Z", "2026-03-01T11:45:00Z"),
            ("2026-03-01T12:15:00Z", "2026-03-01T12:00:00Z"),
        ])
    func window(now: String, start: String) throws {
        let now = try #require(Timestamp(rfc3339: now))
        #expect(ReplicaDemand.windowStart(at: now) == Timestamp(rfc3339: start))
    }
}
