import Domain
import Synchronization

/// Answers every verb with a made-up row and remembers what it was asked.
final class FakeAdministration: Administration {
    struct State: Sendable {
        var failure: AdministrationFailure?
        var calls: [String] = []
        var actors: [AuditActor] = []
        var newTenant: NewTenant?
        var tenantChange: TenantChange?
        var newKey: NewKey?
        var newTier: NewTier?
        var offer: TierOffer?
        var oldOffer: TierOffer?
        var publication: TierPublication?
        var newQuota: NewQuota?
        var raise: (amount: Int64, periods: Int)?
        var model: ModelProfile?
        var replicas: [Replica] = []
        var page = "none"
        var usageQuery: TotalUsageQuery?
        var auditQuery: AuditQuery?
        var routingChange: ModelRoutingChange?
        var version: ModelVersion?
        var alias: ModelAlias?
        var worker: NewWorker?
        var usage: [TenantUsageRow] = []
        var modelUsage: [ModelUsageBucket] = []
        var ranges: [Range<Timestamp>] = []
        var timeZones = ["UTC"]
        var revoked: KeyReference?
        var keyChange: KeyChange?
        var hasMore = false
        var count = 1
        var hasTier = true
        var cachePolicy: CachePolicy?
        var clearing: NewCacheClearing?
        var statisticsQuery: CacheStatisticsQuery?
    }

    let state = Mutex(State())

    static let tenantID = TenantID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_000A)
    static let keyID = KeyID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_000B)
    static let auditID = AuditID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_000C)
    static let instant = Timestamp(microsecondsSince1970: 1_772_366_400_000_000)

    var last: State { state.withLock { $0 } }

    func fail(with failure: AdministrationFailure?) { state.withLock { $0.failure = failure } }
    func set(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }

    func note(_ call: String, _ actor: AuditActor? = nil, _ change: (inout State) -> Void = { _ in })
        throws(AdministrationFailure)
    {
        let failure = state.withLock { state in
            state.calls.append(call)
            if let actor { state.actors.append(actor) }
            change(&state)
            return state.failure
        }
        if let failure { throw failure }
    }

    func page<Row, Cursor>(_ call: String, _ page: PageRequest<Cursor>, _ row: Row)
        throws(AdministrationFailure) -> Page<Row>
    {
        let text = "\(page.limit) \(page.after.map { "\($0)" } ?? "-") \(page.before.map { "\($0)" } ?? "-")"
        try note(call) { $0.page = text }
        let (count, hasMore) = state.withLock { ($0.count, $0.hasMore) }
        return Page(Array(repeating: row, count: count), hasMore: hasMore)
    }

    static func tenantRow(
        state: TenantState = .active, timeZone: String = "Europe/Berlin", hasTier: Bool = true
    ) -> TenantRow {
        TenantRow(
            id: tenantID, name: "Example", timeZone: timeZone, state: state, retention: .none,
            tierCode: hasTier ? "plain" : nil, tierVersionID: hasTier ? FakePrices.euro : nil, createdAt: instant)
    }

    static func keyRow(tenantID: TenantID? = tenantID, name: String = "", rateLimits: [RateLimitRule] = []) -> KeyRow {
        KeyRow(
            id: keyID, publicID: "ABCDabcd0123", tenantID: tenantID, name: name, environment: .live, lastFour: "9xyz",
            scopes: [.read, .predict],
            allowedModels: nil, createdAt: instant, expiresAt: nil, revokedAt: nil, rateLimits: rateLimits)
    }

    static func tierRow(
        _ tier: NewTier?, number: Int32 = 1, state: TierRow.State = .published, offer: TierOffer? = nil
    ) -> TierRow {
        TierRow(
            code: tier?.code ?? "plain", name: tier?.name ?? "Plain", tenantID: tier?.tenantID,
            version: TierRow.Version(
                id: FakePrices.euro, number: number, state: state,
                offer: offer ?? tier?.offer ?? TierOffer(currency: "EUR"), createdAt: instant),
            createdAt: instant)
    }

    func createTenant(_ tenant: NewTenant, by actor: AuditActor) async throws(AdministrationFailure) -> TenantRow {
        try note("createTenant", actor) { $0.newTenant = tenant }
        return Self.tenantRow(state: tenant.state, timeZone: tenant.timeZone)
    }

    func tenants(_ page: PageRequest<TenantID>) async throws(AdministrationFailure) -> Page<TenantRow> {
        try self.page("tenants", page, Self.tenantRow())
    }

    func tenant(_ id: TenantID) async throws(AdministrationFailure) -> TenantRow {
        try note("tenant")
        return Self.tenantRow(hasTier: last.hasTier)
    }

    func changeTenant(_ id: TenantID, _ change: TenantChange, by actor: AuditActor) async throws(AdministrationFailure)
        -> TenantRow
    {
        try note("changeTenant", actor) { $0.tenantChange = change }
        return Self.tenantRow(state: change.state ?? .active)
    }

    func createKey(_ key: NewKey, by actor: AuditActor) async throws(AdministrationFailure) -> CreatedKey {
        try note("createKey", actor) { $0.newKey = key }
        var generator = SystemRandomNumberGenerator()
        return CreatedKey(
            row: Self.keyRow(name: key.name), key: APIKey(environment: key.environment, using: &generator))
    }

    func keys(of tenantID: TenantID, _ page: PageRequest<KeyID>) async throws(AdministrationFailure) -> Page<KeyRow> {
        try self.page("keys", page, Self.keyRow())
    }

    func changeKey(_ key: KeyReference, _ change: KeyChange, by actor: AuditActor) async throws(AdministrationFailure)
        -> KeyRow
    {
        try note("changeKey", actor) { $0.keyChange = change }
        return Self.keyRow(rateLimits: change.rateLimits)
    }

    func revokeKey(_ key: KeyReference, by actor: AuditActor) async throws(AdministrationFailure) -> KeyRow {
        try note("revokeKey", actor) { $0.revoked = key }
        return Self.keyRow()
    }

    static let quotaID = QuotaID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_000E)

    static func quotaRow(_ quota: NewQuota? = nil, raised: Int64 = 0) -> QuotaRow {
        QuotaRow(
            id: quotaID, tenantID: tenantID, holder: quota?.holder ?? .tenant,
            rule: quota?.rule ?? QuotaRule(unit: .tokens, frequency: .month, amount: 1_000, mode: .hard),
            origin: .override, raised: raised, createdAt: instant)
    }

    func quotas(of tenantID: TenantID, _ page: PageRequest<QuotaID>) async throws(AdministrationFailure) -> Page<
        QuotaRow
    > { try self.page("quotas", page, Self.quotaRow()) }

    func setQuota(_ quota: NewQuota, by actor: AuditActor) async throws(AdministrationFailure) -> QuotaRow {
        try note("setQuota", actor) { $0.newQuota = quota }
        return Self.quotaRow(quota)
    }

    func raiseQuota(
        _ id: QuotaID, by amount: Int64, periods: Int, actor: AuditActor
    ) async throws(AdministrationFailure) -> QuotaRow {
        try note("raiseQuota \(id)", actor) { $0.raise = (amount, periods) }
        return Self.quotaRow(raised: amount)
    }

    func deleteQuota(_ id: QuotaID, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("deleteQuota \(id)", actor)
    }

    static let eventID = QuotaEventID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_00E0)

    static func eventRow(of tenantID: TenantID = tenantID) -> QuotaEventRow {
        QuotaEventRow(
            event: QuotaEvent(
                id: eventID, quotaID: quotaID, tenantID: tenantID, mode: .payAsYouGo, thresholdPercent: 80,
                periodStart: instant, periodEnd: instant.advanced(byMilliseconds: 60_000), crossedAt: instant,
                used: 1_850, amount: 1_000, allowed: 2_000),
            holder: .tenant, unit: .tokens, frequency: .month)
    }

    func quotaEvents(
        of tenantID: TenantID?, _ page: PageRequest<QuotaEventID>
    ) async throws(AdministrationFailure) -> Page<QuotaEventRow> {
        try self.page("quotaEvents \(tenantID?.description ?? "all")", page, Self.eventRow())
    }

    func registerModel(_ model: ModelProfile, by actor: AuditActor) async throws(AdministrationFailure) -> ModelProfile
    {
        try note("registerModel", actor) { $0.model = model }
        return model
    }

    func setDelivery(of model: String, _ settings: DeliverySettings, by actor: AuditActor)
        async throws(AdministrationFailure) -> ModelProfile
    {
        let profile = ModelProfile(
            name: model, version: "1", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 1,
            delivery: settings)
        try note("setDelivery \(model)", actor) { $0.model = profile }
        return profile
    }

    func models(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<ModelProfile> {
        try self.page(
            "models", page,
            ModelProfile(
                name: "iris", version: "1", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 64))
    }

    func setRoute(_ model: String, _ replicas: [Replica], by actor: AuditActor) async throws(AdministrationFailure)
        -> RouteRow
    {
        try note("setRoute \(model)", actor) { $0.replicas = replicas }
        return RouteRow(model: model, replicas: replicas, updatedAt: Self.instant)
    }

    func deleteRoute(_ model: String, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("deleteRoute \(model)", actor)
    }

    func setCachePolicy(_ model: String, _ policy: CachePolicy, by actor: AuditActor)
        async throws(AdministrationFailure) -> ModelProfile
    {
        try note("setCachePolicy \(model)", actor) { $0.cachePolicy = policy }
        return ModelProfile(
            name: model, version: "1", featureCount: 4, fixedTokensPerRequest: 1, maximumOutputTokens: 64, cache: policy
        )
    }

    func clearCache(_ clearing: NewCacheClearing, by actor: AuditActor) async throws(AdministrationFailure) -> Int64 {
        try note("clearCache", actor) { $0.clearing = clearing }
        return 7
    }

    func cacheStatistics(_ query: CacheStatisticsQuery) async throws(AdministrationFailure) -> [CacheStatisticsReport] {
        try note("cacheStatistics") { $0.statisticsQuery = query }
        var tally = CacheTally()
        tally.memoryHits = 5
        tally.redisHits = 2
        return [
            CacheStatisticsReport(
                row: CacheStatisticsRow(tenantID: Self.tenantID, model: "iris", tally: tally), tableEntries: 1,
                tableAccesses: 3)
        ]
    }

    func routes(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<RouteRow> {
        try self.page("routes", page, RouteRow(model: "iris", replicas: [], updatedAt: Self.instant))
    }

    static let workerID = WorkerID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_000F)

    private func routing(_ model: String) -> ModelRoutingRow {
        ModelRoutingRow(
            model: model, rules: RoutingRules(stickiness: .field("session_id")),
            versions: [ModelVersion(name: "1.0.0", weight: 9_000), ModelVersion(name: "1.1.0", weight: 1_000)],
            aliases: [ModelAlias(name: "flowers", model: model)])
    }

    func modelRouting(_ model: String) async throws(AdministrationFailure) -> ModelRoutingRow {
        try note("modelRouting \(model)")
        return routing(model)
    }

    func changeModelRouting(
        _ model: String, _ change: ModelRoutingChange, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelRoutingRow {
        try note("changeModelRouting \(model)", actor) { $0.routingChange = change }
        return routing(model)
    }

    func setModelVersion(
        _ model: String, _ version: ModelVersion, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelRoutingRow {
        try note("setModelVersion \(model)", actor) { $0.version = version }
        return routing(model)
    }

    func aliases(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<ModelAlias> {
        try self.page("aliases", page, ModelAlias(name: "flowers", model: "iris", version: "1.0.0"))
    }

    func setAlias(_ alias: ModelAlias, by actor: AuditActor) async throws(AdministrationFailure) -> ModelAlias {
        try note("setAlias", actor) { $0.alias = alias }
        return alias
    }

    func deleteAlias(_ name: String, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("deleteAlias \(name)", actor)
    }

    private static func workerRow(_ worker: NewWorker?) -> WorkerRow {
        WorkerRow(
            id: workerID, model: worker?.model ?? "iris",
            replica: worker?.replica
                ?? Replica(
                    address: WorkerAddress(host: "127.0.0.1", port: 9_000), workerProtocol: .oip, weight: 1,
                    version: ""),
            lifetimeSeconds: worker?.lifetimeSeconds ?? 15, registeredAt: instant, expiresAt: instant,
            isExpired: false)
    }

    func workers(_ page: PageRequest<WorkerID>) async throws(AdministrationFailure) -> Page<WorkerRow> {
        try self.page("workers", page, Self.workerRow(nil))
    }

    func registerWorker(_ worker: NewWorker, by actor: AuditActor) async throws(AdministrationFailure) -> WorkerRow {
        try note("registerWorker", actor) { $0.worker = worker }
        return Self.workerRow(worker)
    }

    func renewWorker(_ id: WorkerID) async throws(AdministrationFailure) -> WorkerRow {
        try note("renewWorker \(id)")
        return Self.workerRow(nil)
    }

    func removeWorker(_ id: WorkerID, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("removeWorker \(id)", actor)
    }

    func usage(_ query: TotalUsageQuery) async throws(AdministrationFailure) -> [TenantUsageRow] {
        try note("usage") { $0.usageQuery = query }
        return last.usage
    }

    func modelUsage(
        _ model: String, from start: Timestamp, to end: Timestamp
    ) async throws(AdministrationFailure) -> [ModelUsageBucket] {
        try note("modelUsage \(model)") { $0.ranges.append(start..<end) }
        return last.modelUsage.filter { (start..<end).contains($0.start) }
    }

    func rebuildUsage(
        from start: Timestamp, to end: Timestamp, by actor: AuditActor
    ) async throws(AdministrationFailure) -> Int64 {
        try note("rebuildUsage", actor) { $0.ranges.append(start..<end) }
        return 7
    }

    func timeZones() async throws(AdministrationFailure) -> [String] {
        try note("timeZones")
        return last.timeZones
    }

    func audit(_ query: AuditQuery) async throws(AdministrationFailure) -> Page<AuditRow> {
        state.withLock { $0.auditQuery = query }
        return try page(
            "audit", query.page,
            AuditRow(
                id: Self.auditID, at: Self.instant, actor: "key:ADMINadmin01", action: "tenant.change",
                subjectType: "tenant",
                subjectID: Self.tenantID.description, tenantID: Self.tenantID,
                before: #"{"state": "active", "amount": 9007199254740993}"#,
                after: nil))
    }
}

extension FakeAdministration: QueueAdministration {
    func queueDepths() async throws(AdministrationFailure) -> [QueueDepth] {
        try note("queueDepths")
        return [QueueDepth(tenantID: Self.tenantID, ready: 3, waiting: 2, processing: 1, oldestReadyAt: Self.instant)]
    }

    func deadJobs(after: RequestID?, limit: Int) async throws(AdministrationFailure) -> [DeadJob] {
        try note("deadJobs")
        return [
            DeadJob(
                id: RequestID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0D0B), tenantID: Self.tenantID,
                model: "iris", operation: "predict", attempt: 5, errorCode: "bad_upstream", errorDetail: "It broke.",
                createdAt: Self.instant, endedAt: Self.instant, expiresAt: Self.instant)
        ]
    }

    func retryDead(_ id: RequestID, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("retryDead", actor)
    }
}

extension FakeAdministration: ProofAdministration {
    func rotateSigningKey(
        isCompromised: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PublicSigningKey {
        try note("rotateSigningKey", actor)
        return PublicSigningKey(
            id: SigningKeyID(word: 1), publicKey: [UInt8](repeating: 1, count: 32), state: .active,
            createdAt: Self.instant, retiredAt: nil)
    }

    func distrustSigningKey(
        _ id: SigningKeyID, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PublicSigningKey {
        try note("distrustSigningKey", actor)
        return PublicSigningKey(
            id: id, publicKey: [UInt8](repeating: 1, count: 32), state: .compromised, createdAt: Self.instant,
            retiredAt: Self.instant)
    }

    func signingKeys() async throws(AdministrationFailure) -> [PublicSigningKey] { [] }

    func ledgerHead(of tenantID: TenantID) async throws(AdministrationFailure) -> SignedHead? {
        try note("ledgerHead")
        return nil
    }

    func ledgerPage(
        of tenantID: TenantID, after sequence: Int64, through end: Int64, limit: Int
    ) async throws(AdministrationFailure) -> ChainPage<LedgerEntry> { ChainPage(entries: [], heads: []) }

    func ledgerHash(of tenantID: TenantID, at sequence: Int64) async throws(AdministrationFailure) -> ProofHash? {
        nil
    }

    func auditHead() async throws(AdministrationFailure) -> SignedHead? {
        try note("auditHead")
        return nil
    }

    func auditPage(
        after sequence: Int64, through end: Int64, limit: Int
    ) async throws(AdministrationFailure) -> ChainPage<AuditRow> { ChainPage(entries: [], heads: []) }
}
