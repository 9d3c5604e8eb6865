internal import Domain
internal import Synchronization

/// What the cache keeps of one tenant: its secret, its questions under way, its counts. Nothing of it is another's.
final class CacheTenant: Sendable {
    let id: TenantID
    let secret: CacheSecret
    let flights = Mutex(CacheFlights())
    let redisBudget = CacheBudget()
    let tableBudget = CacheBudget()
    private let models = Mutex<[String: CacheAccount]>([:])

    init(id: TenantID, secret: CacheSecret) {
        self.id = id
        self.secret = secret
    }

    func account(of model: String) -> CacheAccount {
        models.withLock { models in
            if let known = models[model] { return known }
            let account = CacheAccount(tenantID: id, model: model)
            models[model] = account
            return account
        }
    }

    var accounts: [CacheAccount] { models.withLock { Array($0.values) } }
}

/// Bytes that one tenant may write to a level of others' too, each minute and from this gateway.
final class CacheBudget: Sendable {
    private let state = Mutex<(minute: UInt64, bytes: Int)>((0, 0))

    /// - Returns: whether there was so much left; if not, nothing is taken.
    func take(_ bytes: Int, of limit: Int, atNanoseconds now: UInt64) -> Bool {
        let minute = now / 60_000_000_000
        return state.withLock { state in
            if state.minute != minute { state = (minute, 0) }
            guard bytes <= limit - state.bytes else { return false }
            state.bytes += bytes
            return true
        }
    }
}

/// What the cache did for one model of one tenant since it was last written down.
final class CacheAccount: Sendable {
    let tenantID: TenantID
    let model: String
    /// Apart from the others: many loops count here, and none waits for another.
    private let memoryHits = Atomic<Int64>(0)
    private let rest = Mutex(CacheTally())
    /// The version whose worker names another one, and until when that is believed.
    private let unkept = Mutex<(version: String, untilNanoseconds: UInt64)?>(nil)

    init(tenantID: TenantID, model: String) {
        self.tenantID = tenantID
        self.model = model
    }

    func countMemoryHit() { memoryHits.wrappingAdd(1, ordering: .relaxed) }

    func count(_ change: (inout CacheTally) -> Void) { rest.withLock { change(&$0) } }

    /// Whether the answers of this version were lately none to keep.
    func isUnkept(_ version: String, atNanoseconds now: UInt64) -> Bool {
        unkept.withLock { unkept in
            guard let known = unkept, known.version == version else { return false }
            return now < known.untilNanoseconds
        }
    }

    func noteUnkept(_ version: String, untilNanoseconds: UInt64) {
        unkept.withLock { $0 = (version, untilNanoseconds) }
    }

    /// What was counted since the last call.
    func take() -> CacheTally {
        var tally = rest.withLock { tally in
            defer { tally = CacheTally() }
            return tally
        }
        tally.memoryHits += memoryHits.exchange(0, ordering: .relaxed)
        return tally
    }

    /// Counts once more what could not be written down.
    func putBack(_ tally: CacheTally) {
        memoryHits.wrappingAdd(tally.memoryHits, ordering: .relaxed)
        rest.withLock { rest in
            rest.redisHits += tally.redisHits
            rest.tableHits += tally.tableHits
            rest.collapsed += tally.collapsed
            rest.misses += tally.misses
            rest.stores += tally.stores
            rest.storedBytes += tally.storedBytes
            rest.evictions += tally.evictions
        }
    }
}
