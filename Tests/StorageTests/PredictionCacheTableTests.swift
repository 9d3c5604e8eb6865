import Domain
import PostgresDriver
import Testing

@testable import Storage

@Suite("The cache in the database") struct PredictionCacheTableTests {
    private static let tenant = TenantID(high: 1, low: 1)
    private static let other = TenantID(high: 1, low: 2)
    private static let now = Timestamp(microsecondsSince1970: 4_000_000_000_000_000)

    private static func row(_ key: CacheKey, at: Timestamp = now, byte: UInt8 = 1) -> CachedRow {
        CachedRow(
            key: key, tenantID: tenant, model: "iris", version: "1", label: "user1_a", bytes: [byte], cachedAt: at,
            expiresAt: at.advanced(byMilliseconds: 1_000_000))
    }

    private static func clear(_ session: PostgresSession, _ clearing: NewCacheClearing) throws -> Int64 {
        try session.execute(ClearPredictionCache(clearing: clearing)).first ?? 0
    }

    @Test("a row is found by its tenant alone, the younger of two stays, and readings are added")
    func rows() async throws {
        try await StorageHarness.with { harness in
            let key = CacheKey(1, 2, 3, 4)
            try await harness.onSession("weir_writer") { session in
                let later = Self.now.advanced(byMilliseconds: 10)
                _ = try session.execute(
                    KeepCachedPredictions(rows: [Self.row(key), Self.row(key, at: later, byte: 2)]))
                _ = try session.execute(KeepCachedPredictions(rows: [Self.row(key, byte: 3)]))
                #expect(try session.execute(FindCachedPrediction(key: key, tenantID: Self.tenant)).first == [2])
                #expect(try session.execute(FindCachedPrediction(key: key, tenantID: Self.other)).first == .some(nil))
                let access = CacheAccess(key: key, count: 5, lastAt: later)
                _ = try session.execute(NoteCacheAccesses(accesses: [access]))
                _ = try session.execute(NoteCacheAccesses(accesses: [access]))
                var tally = CacheTally()
                tally.memoryHits = 3
                tally.evictions = 1
                let statistics = CacheStatisticsRow(tenantID: Self.tenant, model: "iris", tally: tally)
                _ = try session.execute(AddCacheStatistics(rows: [statistics]))
                _ = try session.execute(AddCacheStatistics(rows: [statistics]))
            }
            let report = try await harness.onSession("weir_admin") { session in
                try session.execute(
                    ReadCacheStatistics(query: CacheStatisticsQuery(tenantID: Self.tenant, model: nil, limit: 10)))
            }
            #expect(report.count == 1 && report.first?.tableEntries == 1 && report.first?.tableAccesses == 10)
            #expect(report.first?.row.tally.memoryHits == 6 && report.first?.row.tally.evictions == 2)
        }
    }

    @Test("what has ended is not found, and is removed so many at a time")
    func ends() async throws {
        try await StorageHarness.with { harness in
            let past = Timestamp(microsecondsSince1970: 1_000_000_000_000_000)
            try await harness.onSession("weir_writer") { session in
                let keys = (0..<5).map { CacheKey($0, 0, 0, 0) }
                _ = try session.execute(KeepCachedPredictions(rows: keys.map { Self.row($0, at: past) }))
                #expect(
                    try session.execute(FindCachedPrediction(key: keys[0], tenantID: Self.tenant)).first == .some(nil))
            }
            let removed = try await harness.onSession("weir_jobs") { session in
                try (0..<3).map { _ in try session.execute(RemoveExpiredPredictions(limit: 3)).first }
            }
            #expect(removed == [3, 2, 0])
        }
    }

    @Test("of a tenant with too many rows those go that end soonest, so many at a time, and nobody else's")
    func excess() async throws {
        try await StorageHarness.with { harness in
            try await harness.onSession("weir_writer") { session in
                let rows = (0..<7).map {
                    Self.row(CacheKey($0, 0, 0, 0), at: Self.now.advanced(byMilliseconds: Int64($0)))
                }
                let others = (0..<2).map { number in
                    CachedRow(
                        key: CacheKey(100 + number, 0, 0, 0), tenantID: Self.other, model: "iris", version: "1",
                        label: nil, bytes: [1], cachedAt: Self.now, expiresAt: Self.now.advanced(byMilliseconds: 1))
                }
                _ = try session.execute(KeepCachedPredictions(rows: rows + others))
            }
            let removed = try await harness.onSession("weir_jobs") { session in
                try (0..<3).map { _ in
                    try session.execute(RemoveExcessPredictions(rowsPerTenant: 2, limit: 3)).first
                }
            }
            #expect(removed == [3, 2, 0])
            try await harness.onSession("weir_writer") { session in
                for number in UInt64(0)..<7 {
                    let found =
                        try session.execute(
                            FindCachedPrediction(key: CacheKey(number, 0, 0, 0), tenantID: Self.tenant)
                        ).first ?? nil
                    #expect((found != nil) == (number >= 5))
                }
            }
        }
    }

    @Test("clearings have growing numbers, and one of a whole scope takes the place of those that it covers")
    func clearings() async throws {
        try await StorageHarness.with { harness in
            let numbers = try await harness.onSession("weir_admin") { session in
                [
                    try Self.clear(session, .init(tenantID: Self.tenant, model: nil, pattern: "a*")),
                    try Self.clear(session, .init(tenantID: Self.tenant, model: "iris", pattern: nil)),
                    try Self.clear(session, .init(tenantID: Self.other, model: nil, pattern: "a*")),
                    try Self.clear(session, .init(tenantID: nil, model: "iris", pattern: nil)),
                ]
            }
            #expect(numbers == numbers.sorted() && Set(numbers).count == 4)
            func read(after known: Int64) async throws -> [CacheClearing] {
                try await harness.onSession("weir_directory") { try $0.execute(ReadCacheClearings(known: known)) }
            }
            #expect(try await read(after: -1).count == 4)
            #expect(try await read(after: numbers[3]).isEmpty)
            let whole = try await harness.onSession("weir_admin") { session in
                try Self.clear(session, .init(tenantID: Self.tenant, model: nil, pattern: nil))
            }
            #expect(
                Set(try await read(after: numbers[3]).map(\.sequence)) == [numbers[2], numbers[3], whole],
                "the tenant's own are covered, nobody else's")
            let state = try await harness.sqlState(
                of: "INSERT INTO cache_clearings (pattern) VALUES ('*')", as: "weir_admin")
            #expect(state != nil, "a pattern is a tenant's")
        }
    }
}
