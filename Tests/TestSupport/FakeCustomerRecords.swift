public import Domain
internal import Synchronization

/// What a customer may read, in memory.
public final class FakeCustomerRecords: CustomerRecords {
    private struct State {
        var requests: [(tenant: TenantID, row: RequestRow)] = []
        var usage: [UsageRow] = []
        var quotas: [QuotaState] = []
        var explanations: [RequestID: RequestExplanation] = [:]
        var refusals: [RefusalRecord] = []
        var usageQueries: [UsageQuery] = []
        var contents: [RequestID: (state: ResultState, bytes: [UInt8])] = [:]
        var isAway = false
        var hours: [HourlyUsage] = []
        var ratingInput = RatingInput(spans: [], usage: [], terms: [:])
    }

    private let state = Mutex(State())
    /// Every read passes it.
    public let gate: Gate

    public init(gate: Gate = Gate(isOpen: true)) { self.gate = gate }

    public var usageQueries: [UsageQuery] { state.withLock { $0.usageQueries } }

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    public func add(_ row: RequestRow, of tenant: TenantID) { state.withLock { $0.requests.append((tenant, row)) } }
    public func keep(_ bytes: [UInt8], as state: ResultState, of id: RequestID) {
        self.state.withLock { $0.contents[id] = (state, bytes) }
    }
    public func set(usage: [UsageRow]) { state.withLock { $0.usage = usage } }
    public func add(_ explanation: RequestExplanation, of tenant: TenantID) {
        add(explanation.row, of: tenant)
        state.withLock { $0.explanations[explanation.row.id] = explanation }
    }
    public func add(_ refusal: RefusalRecord) { state.withLock { $0.refusals.append(refusal) } }
    public func set(quotas: [QuotaState]) { state.withLock { $0.quotas = quotas } }

    public func usage(_ query: UsageQuery) async throws(StoreUnavailable) -> [UsageRow] {
        state.withLock { $0.usageQueries.append(query) }
        try await arrive()
        return state.withLock { $0.usage }
    }

    public func set(hours: [HourlyUsage], ratingInput: RatingInput) {
        state.withLock { ($0.hours, $0.ratingInput) = (hours, ratingInput) }
    }

    public func hours(
        of tenant: TenantID, from start: Timestamp, to end: Timestamp
    ) async throws(StoreUnavailable) -> [HourlyUsage] {
        try await arrive()
        return state.withLock { $0.hours }
    }

    public func ratingInput(tenantID: TenantID, period: Period) async throws(StoreUnavailable) -> RatingInput {
        try await arrive()
        return state.withLock { $0.ratingInput }
    }

    public func quotaStates(tenantID: TenantID, periods: [(QuotaID, Period)]) async throws(StoreUnavailable)
        -> [QuotaState]
    {
        try await arrive()
        return state.withLock { $0.quotas }
    }

    public func requests(_ query: RequestQuery) async throws(StoreUnavailable) -> RequestPage {
        try await arrive()
        let rows = state.withLock { $0.requests }.filter { $0.tenant == query.tenantID }.map(\.row).sorted {
            $0.id > $1.id
        }
        let matching = rows.filter { row in
            (query.status == nil || query.status == row.status) && (query.model == nil || query.model == row.model)
        }
        if let after = query.after {
            return RequestPage(rows: Array(matching.filter { $0.id < after }.prefix(query.limit)))
        }
        if let before = query.before {
            return RequestPage(rows: Array(matching.filter { $0.id > before }.suffix(query.limit)))
        }
        return RequestPage(rows: Array(matching.prefix(query.limit)))
    }

    public func detail(of id: RequestID, tenantID: TenantID, readsPrompt: Bool) async throws(StoreUnavailable)
        -> RequestDetail?
    {
        guard let row = try await request(id, tenantID: tenantID) else { return nil }
        let kept = state.withLock { $0.contents[id] }
        return RequestDetail(row: row, prompt: nil, promptDigest: nil, result: kept?.state ?? .none)
    }

    public func resultBytes(of id: RequestID, tenantID: TenantID, range: Range<Int>) async throws(StoreUnavailable)
        -> [UInt8]?
    {
        guard try await request(id, tenantID: tenantID) != nil else { return nil }
        return state.withLock { $0.contents[id] }.map { Array($0.bytes[range]) }
    }

    public func request(_ id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RequestRow? {
        try await arrive()
        return state.withLock { $0.requests }.first { $0.tenant == tenantID && $0.row.id == id }?.row
    }

    public func explanation(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable)
        -> RequestExplanation?
    {
        guard let row = try await request(id, tenantID: tenantID) else { return nil }
        return state.withLock { $0.explanations[id] }
            ?? RequestExplanation(row: row, heldTokens: nil, leaseID: nil, policies: [])
    }

    public func refusal(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> RefusalRecord? {
        try await arrive()
        return state.withLock { $0.refusals }.first { $0.requestID == id && $0.tenantID == tenantID }
    }

    private func arrive() async throws(StoreUnavailable) {
        await gate.pass()
        if isAway { throw StoreUnavailable(cause: "the records are away") }
    }
}
