public import Domain
internal import Synchronization

/// Routes in memory.
public final class FakeRouteSource: RouteSource {
    private let snapshot: Mutex<RouteSnapshot>

    public init(_ routes: [ModelRoute], aliases: [ModelAlias] = [], redis: DependencyState = .notConfigured) {
        snapshot = Mutex(
            RouteSnapshot(
                table: RouteTable(routes, aliases: aliases, source: .registry), redis: redis, isRegistryFresh: true))
    }

    public func set(_ fresh: RouteSnapshot) { snapshot.withLock { $0 = fresh } }
    public func load() async -> RouteSnapshot { snapshot.withLock { $0 } }
}

/// Price sheets in memory.
public final class FakePriceSource: PriceSource {
    private let sheets: [TierVersionID: PriceSheet]
    private let state = Mutex((reads: 0, isAway: false))

    public init(_ sheets: [PriceSheet]) {
        self.sheets = Dictionary(sheets.map { ($0.tierVersionID, $0) }) { _, last in last }
    }

    public var reads: Int { state.withLock { $0.reads } }

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    public func sheet(_ id: TierVersionID) async throws(StoreUnavailable) -> PriceSheet? {
        let isAway = state.withLock { state in
            state.reads += 1
            return state.isAway
        }
        if isAway { throw StoreUnavailable(cause: "the prices are away") }
        return sheets[id]
    }
}

/// A health report that a test sets.
public final class FakeHealth: HealthSource {
    private let state: Mutex<HealthReport>

    public init(_ report: HealthReport) { state = Mutex(report) }

    public func set(_ report: HealthReport) { state.withLock { $0 = report } }
    public func report() async -> HealthReport { state.withLock { $0 } }
}
