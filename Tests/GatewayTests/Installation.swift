import Crypto
import Domain
import Logging
import NIOCore
import NIOPosix
import TestSupport

@testable import Gateway

/// One customer, one model and every part of the gateway, with fakes at the edges.
struct Installation: Sendable {
    static let pepper = [UInt8](repeating: 0x5A, count: 32)
    static let tenant = TenantID(high: 0, low: 0xA)
    static let tier = TierVersionID(high: 0, low: 0xB)
    static let keyID = KeyID(high: 0, low: 0xC)
    static let noon = "2026-03-15T12:00:00Z"
    static let body = #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#

    let time: any TimeSource
    let directory = FakeKeyDirectory()
    let ledger: FakeQuotaLedger
    let idempotency: FakeIdempotencyStore
    let claims: ClaimKeeper
    let cacheStore: FakeCacheStore
    let cache: PredictionCache
    let settler: FakeSettler
    let backend: FakeBackend
    let priceSource: FakePriceSource
    let records: FakeCustomerRecords
    let health: FakeHealth
    let routeSource: FakeRouteSource
    let keys: KeyCache
    let rates: RateKeeper
    let quota: QuotaKeeper
    let routes: RouteDirectory
    let deliveries: DeliveryDirectory
    let prices: PriceBook
    /// A key with every scope of a customer.
    let key: APIKey

    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    static func quota(_ unit: QuotaUnit, _ amount: Int64, mode: QuotaMode = .hard, frequency: Frequency = .month)
        -> Quota
    {
        Quota(
            id: QuotaID(high: 1, low: unit == .tokens ? 1 : 2), unit: unit, frequency: frequency, amount: amount,
            mode: mode)
    }

    static func principal(
        scopes: Set<Scope> = [.predict, .read, .billing], models: Set<String>? = nil,
        quotas: [Quota] = [quota(.requests, 1_000), quota(.tokens, 1_000_000)], rateLimits: RateLimits? = nil,
        retention: Retention = .none, tenant: TenantID = tenant
    ) -> Principal {
        Principal(
            tenantID: tenant, keyID: keyID, userID: nil, scopes: scopes, allowedModels: models, environment: .live,
            tierVersionID: tier, quotas: quotas, rateLimits: rateLimits,
            timeZone: "Europe/Berlin", retention: retention)
    }

    static func route(
        replicas: [Replica] = [replica()], features: Int? = 4, fixed: Int64 = 10, output: Int64 = 50,
        counting: TokenCounting = .worker, delivery: DeliverySettings = .none, cache: CachePolicy = .off
    ) -> ModelRoute {
        ModelRoute(
            profile: ModelProfile(
                name: "iris", version: "1", featureCount: features, fixedTokensPerRequest: fixed,
                maximumOutputTokens: output, tokenCounting: counting, delivery: delivery, cache: cache),
            replicas: replicas)
    }

    static func replica(_ port: Int = 9_001, _ workerProtocol: WorkerProtocol = .predict, version: String = "1")
        -> Replica
    {
        Replica(
            address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: workerProtocol, weight: 1,
            version: version)
    }

    init(
        time: any TimeSource = ManualTime(noon), principal: Principal = principal(), route: ModelRoute = route(),
        redis: DependencyState = .notConfigured,
        ledger: FakeQuotaLedger = FakeQuotaLedger(), backend: FakeBackend = FakeBackend(),
        records: FakeCustomerRecords = FakeCustomerRecords(),
        waitingLimit: Int = 10_000, rates sharedRates: (any RateLimiter)? = nil,
        sharedCache: (any SharedPredictionCache)? = nil, cacheStore: FakeCacheStore = FakeCacheStore(),
        cacheHitTokenPercent: Int64 = 100, requestTerms: RequestTerms = .standard,
        cacheConfiguration: PredictionCache.Configuration = .init()
    ) async {
        self.time = time
        self.cacheStore = cacheStore
        self.ledger = ledger
        ledger.believe(time)
        self.backend = backend
        self.records = records
        idempotency = FakeIdempotencyStore(time: time)
        claims = ClaimKeeper(store: idempotency, logger: Self.logger)
        settler = FakeSettler(keys: idempotency)
        cache = PredictionCache(
            configuration: cacheConfiguration, pepper: Self.pepper, shared: sharedCache, store: cacheStore, time: time,
            logger: Self.logger)
        let sheet = PriceSheet(
            tierVersionID: Self.tier, tierCode: "pro", version: 1, currency: "EUR",
            cacheHitTokenPercent: cacheHitTokenPercent, requestTerms: requestTerms,
            prices: [
                .init(meter: .request, model: "*", unitPrice: UnitPrice(picos: 1_000_000_000)),
                .init(meter: .inputToken, model: "*", unitPrice: UnitPrice(picos: 10_000_000)),
                .init(meter: .outputToken, model: "*", unitPrice: UnitPrice(picos: 20_000_000)),
            ])
        priceSource = FakePriceSource([sheet])
        health = FakeHealth(
            HealthReport(postgres: .available, redis: redis, isSettlementAccepting: true, models: ["iris": true]))
        routeSource = FakeRouteSource([route], redis: redis)
        keys = KeyCache(directory: directory, pepper: Self.pepper, time: time, logger: Self.logger)
        var configuration = QuotaKeeper.Configuration()
        configuration.waitingLimit = waitingLimit
        quota = QuotaKeeper(ledger: ledger, configuration: configuration, time: time, logger: Self.logger)
        rates = Self.rates(sharedRates, time: time)
        deliveries = DeliveryDirectory(defaults: DeliveryPolicy(), time: time, logger: Self.logger)
        routes = RouteDirectory(source: routeSource, deliveries: deliveries, logger: Self.logger)
        prices = PriceBook(source: priceSource)
        var random = SystemRandomNumberGenerator()
        key = APIKey(environment: .live, using: &random)
        directory.put(Self.record(key, .customer(principal, .active)))
        await routes.refresh()
        await cache.refresh()
    }

    static func rates(_ shared: (any RateLimiter)?, time: any TimeSource, gateway: UInt64 = 0xE) -> RateKeeper {
        let own = InProcessRateLimiter(
            gatewayID: GatewayID(high: 0, low: gateway), leaseMilliseconds: 2_000, time: time)
        return RateKeeper(shared: shared, own: own, configuration: .init(), time: time, logger: logger)
    }

    static func record(
        _ key: APIKey, _ holder: KeyRecord.Holder, expiresAt: Timestamp? = nil, revokedAt: Timestamp? = nil,
        pepper: [UInt8] = pepper
    ) -> KeyRecord {
        let digest = Array(HMAC<SHA256>.authenticationCode(for: key.text, using: SymmetricKey(data: pepper)))
        return KeyRecord(
            publicID: key.publicID, digest: digest, expiresAt: expiresAt, revokedAt: revokedAt, holder: holder)
    }

    /// Another key of the same customer.
    func addKey(_ principal: Principal, state: KeyRecord.TenantState = .active) -> APIKey {
        var random = SystemRandomNumberGenerator()
        let key = APIKey(environment: .test, using: &random)
        directory.put(Self.record(key, .customer(principal, state)))
        return key
    }

    func addAdminKey() throws -> APIKey {
        var random = SystemRandomNumberGenerator()
        let key = APIKey(environment: .admin, using: &random)
        directory.put(
            Self.record(
                key, .admin(AdminPrincipal(keyID: KeyID(high: 0, low: 0xD), publicID: key.publicID, scopes: [.admin]))))
        return key
    }

    var pipeline: InferencePipeline { pipeline(mirrors: MirrorTraffic()) }

    func pipeline(mirrors: MirrorTraffic) -> InferencePipeline {
        InferencePipeline(
            keys: keys, routes: routes, prices: prices, rates: rates, quota: quota, claims: claims,
            cache: cache, dispatch: Dispatch(backend: backend, time: time),
            settler: settler, estimates: TokenEstimates(), refusals: RefusalBuffer(), mirrors: mirrors, time: time,
            logger: Self.logger, faults: NoFaults())
    }

    var parts: GatewayServer.Parts {
        .init(
            keys: keys, routes: routes, prices: prices, rates: rates, quota: quota, claims: claims, cache: cache,
            backend: backend,
            settler: settler,
            records: records, health: health, time: time)
    }
}
