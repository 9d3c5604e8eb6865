internal import Domain
internal import Logging
internal import Metrics
internal import Synchronization

/// What a gateway does for its cache beside the requests.
extension PredictionCache {
    private static let rowBatch = 100

    /// Ends waits, renews claims and writes down what was counted, until its task is cancelled. Each in a task of its own: a claim lasts for
    /// seconds, and must not run out because the database takes its time.
    public func keep(renewalMilliseconds: UInt64 = 1_000) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.repeating(everyMilliseconds: 100) { self.endWaits() } }
            group.addTask { await self.repeating(everyMilliseconds: renewalMilliseconds) { await self.renewClaims() } }
            group.addTask { await self.repeating(everyMilliseconds: 1_000) { await self.flush() } }
        }
    }

    /// Keeps claims until the last question has ended whose worker was asked, and writes down what is left.
    /// - Parameter limit: for the questions.
    public func finish(withinMilliseconds limit: Int64) async {
        let end = time.monotonicNanoseconds &+ UInt64(max(0, limit)) * 1_000_000
        while claims.withLock({ !$0.isEmpty }), time.monotonicNanoseconds < end {
            endWaits()
            await renewClaims()
            try? await Task.sleep(nanoseconds: 100_000_000)
        }
        await flush()
    }

    private func repeating(everyMilliseconds pause: UInt64, _ work: () async -> Void) async {
        while !Task.isCancelled {
            await work()
            try? await Task.sleep(nanoseconds: pause * 1_000_000)
        }
    }

    /// Learns what was cleared; called when the database says that something changed, twice a second in any case, and once before anything
    /// is served.
    public func refresh() async {
        let known = newestClearing.load(ordering: .acquiring)
        do throws(StoreUnavailable) {
            guard let fresh = try await store.clearings(after: known) else { return }
            let read = CacheClearings(fresh)
            clearings.withLock { current in
                // Of two readings at the same time the older one may come last.
                guard read.newest >= current.newest else { return }
                current = read
                newestClearing.store(read.newest, ordering: .releasing)
            }
        } catch {
            logger.debug("what was cleared of the cache cannot be read", metadata: ["cause": "\(error.cause)"])
        }
    }

    /// Ends the waits of those who have waited as long as they may for another's answer; called several times a second.
    public func endWaits() {
        let now = time.monotonicNanoseconds
        for tenant in allTenants {
            let overdue = tenant.flights.withLock { $0.takeOverdue(atNanoseconds: now) }
            for waiter in overdue { waiter.resume(returning: .overdue) }
        }
    }

    /// Keeps the claims of requests under way; called several times in a claim's life.
    public func renewClaims() async {
        let open = claims.withLock { Array($0) }
        await shared?.renew(open)
    }

    /// Writes down what waits: rows, readings of rows, counts.
    public func flush() async {
        let (rows, accesses) = pending.withLock { pending in
            let taken = (pending.rows, Array(pending.accesses.values))
            pending = Pending()
            return taken
        }
        droppedRows.increment(by: await write(rows, accesses))
        await flushStatistics()
    }

    /// - Returns: how many rows were not written. That is a miss later; holding them on would fill the memory while the database is away.
    func write(_ rows: [CachedRow], _ accesses: [CacheAccess]) async -> Int {
        var written = 0
        do throws(StoreUnavailable) {
            while written < rows.count {
                let batch = rows[written..<min(written + Self.rowBatch, rows.count)]
                try await store.write(Array(batch))
                written += batch.count
            }
            if !accesses.isEmpty { try await store.touch(accesses) }
        } catch {
            logger.debug("cached predictions could not be kept", metadata: ["cause": "\(error.cause)"])
        }
        return rows.count - written
    }

    private func flushStatistics() async {
        var counted: [(account: CacheAccount, tally: CacheTally)] = []
        for tenant in allTenants {
            for account in tenant.accounts {
                let tally = account.take()
                if !tally.isZero { counted.append((account, tally)) }
            }
        }
        var (bytes, entries) = (0, 0)
        for shard in shards {
            shard.store.withLock {
                bytes += $0.bytes
                entries += $0.count
            }
        }
        CacheMetrics.record(bytes: bytes, entries: entries, isAway: isDegraded)
        guard !counted.isEmpty else { return }
        do throws(StoreUnavailable) {
            try await store.add(
                counted.map {
                    CacheStatisticsRow(tenantID: $0.account.tenantID, model: $0.account.model, tally: $0.tally)
                })
            CacheMetrics.count(counted.map(\.tally))
        } catch {
            for item in counted { item.account.putBack(item.tally) }
        }
    }
}

/// Counted for the process as a whole: names of models and tenants are no labels.
enum CacheMetrics {
    private static let memory = Counter(label: "weir_cache_requests_total", dimensions: [("result", "memory_hit")])
    private static let redis = Counter(label: "weir_cache_requests_total", dimensions: [("result", "redis_hit")])
    private static let table = Counter(label: "weir_cache_requests_total", dimensions: [("result", "table_hit")])
    private static let collapsed = Counter(label: "weir_cache_requests_total", dimensions: [("result", "collapsed")])
    private static let miss = Counter(label: "weir_cache_requests_total", dimensions: [("result", "miss")])
    private static let stores = Counter(label: "weir_cache_stores_total")
    private static let evictions = Counter(label: "weir_cache_evictions_total")
    private static let bytes = Gauge(label: "weir_cache_bytes")
    private static let entries = Gauge(label: "weir_cache_entries")
    private static let away = Gauge(label: "weir_cache_redis_away")

    static func count(_ tallies: [CacheTally]) {
        for tally in tallies {
            memory.increment(by: tally.memoryHits)
            redis.increment(by: tally.redisHits)
            table.increment(by: tally.tableHits)
            collapsed.increment(by: tally.collapsed)
            miss.increment(by: tally.misses)
            stores.increment(by: tally.stores)
            evictions.increment(by: tally.evictions)
        }
    }

    static func record(bytes byteCount: Int, entries entryCount: Int, isAway: Bool) {
        bytes.record(byteCount)
        entries.record(entryCount)
        away.record(isAway ? 1 : 0)
    }
}
