import Billing
import Domain
import Foundation
import Gateway
import InferenceClient
import LedgerProof
import Logging
import NIOPosix
import PostgresDriver
import RedisDriver
import Storage

/// What both listeners and the jobs stand on.
struct ServerParts: Sendable {
    let time: any TimeSource
    let keys: KeyCache
    let routes: RouteDirectory
    let prices: PriceBook
    let rates: RateKeeper
    let quota: QuotaKeeper
    let claims: ClaimKeeper
    let refusals = RefusalBuffer()
    let refusalStore: any RefusalStore
    let cache: PredictionCache
    let settler: SettlementWriters
    let ring: SigningKeyRing
    let proofs: GatewayServer.Proofs
    let mirrors = MirrorTraffic()
    let queues: QueueWatch
    let workers: WorkerClient
    let webhookClient: WebhookClient
    let webhooks: GatewayServer.Webhooks
    let batches: GatewayServer.Batches
    let batchQueue: BatchQueueStore
    let exports: UsageExportStore
    let redis: RedisClient?
    let listener: PostgresListener
    let jobs: JobParts
    let records: any CustomerRecords
    let tiers: GatewayServer.Tiers
    let health: any HealthSource
    let watch: DatabaseWatch
    let printer: PDFCommand
    let invoices: GatewayServer.Invoices
    let isAllowedWorker: @Sendable (WorkerAddress) -> Bool

    init(settings: Settings, pools: DatabasePools, eventLoops: MultiThreadedEventLoopGroup, logger: Logger) throws {
        let time = SystemTime()
        self.time = time
        var random = SystemRandomNumberGenerator()
        let gatewayID = GatewayID(at: time.now, using: &random)
        let url = settings.databaseURL ?? ""

        redis = try settings.redisURL.map { url in
            try RedisClient(configuration: RedisConfiguration(url: url), eventLoopGroup: eventLoops, logger: logger)
        }
        let policy = settings.workerAddresses
        // A name can only be checked when it is resolved, which the client does before every connection.
        isAllowedWorker = { address in
            // Whatever ends in a number is an address and no name, also in the spellings that only a resolver would read as one.
            let last = address.host.split(separator: ".").last ?? ""
            let isNumeric =
                address.host.contains(":") || last.allSatisfy(\.isNumber) || last.lowercased().hasPrefix("0x")
            return !isNumeric || policy.permits(numericHost: address.host)
        }
        let directory = KeyStore(pool: pools.directory)
        keys = KeyCache(directory: directory, pepper: settings.keyPepper ?? [], time: time, logger: logger)
        routes = RouteDirectory(
            source: RouteStore(pool: pools.directory, redis: redis, isAllowed: isAllowedWorker, logger: logger),
            deliveries: Self.deliveries(settings, time: time, logger: logger),
            logger: logger)
        prices = PriceBook(source: PriceStore(pool: pools.directory))

        let leaseMilliseconds = Int64(settings.leaseSeconds) * 1_000
        var quotaConfiguration = QuotaKeeper.Configuration()
        quotaConfiguration.leaseMilliseconds = leaseMilliseconds
        quota = QuotaKeeper(
            ledger: LeaseStore(pool: pools.writer, gatewayID: gatewayID, leaseMilliseconds: leaseMilliseconds),
            configuration: quotaConfiguration, time: time, logger: logger)

        // As long as a lease: a gateway that has died is noticed in the same time.
        claims = ClaimKeeper(
            store: ClaimStore(pool: pools.claims, gatewayID: gatewayID, claimMilliseconds: leaseMilliseconds),
            logger: logger)
        refusalStore = RefusalTable(pool: pools.writer)
        cache = Self.cache(settings, redis: redis, pools: pools, time: time, logger: logger)
        rates = Self.rates(settings, redis: redis, gatewayID: gatewayID, time: time, logger: logger)

        queues = QueueWatch(journal: QueueDepthStore(pool: pools.writer), time: time) { [routes] in
            routes.deliveries.takeDepths()
        }
        ring = SigningKeyRing(
            directory: SigningKeyStore(
                directory: pools.directory, jobs: pools.jobs, pepper: settings.keyPepper ?? []), time: time)
        proofs = GatewayServer.Proofs(records: ProofStore(pool: pools.reader), ring: ring)
        settler = try SettlementWriters(
            settings: settings, gatewayID: gatewayID, receipts: ring, time: time, logger: logger)
        var clientConfiguration = WorkerClient.Configuration()
        clientConfiguration.addressPolicy = policy
        workers = WorkerClient(eventLoops: eventLoops, configuration: clientConfiguration, logger: logger)
        batches = GatewayServer.Batches(
            files: FileStore(pool: pools.customer, time: time), batches: BatchStore(pool: pools.customer, time: time),
            limits: settings.batches)
        batchQueue = BatchQueueStore(pool: pools.queue, jobs: pools.jobs)
        exports = UsageExportStore(pool: pools.ownExports, perTenant: 1)
        webhookClient = WebhookClient(
            eventLoops: eventLoops, policy: settings.webhooks.addresses,
            timeoutMilliseconds: Int64(settings.webhooks.timeoutMilliseconds))
        webhooks = GatewayServer.Webhooks(
            records: WebhookStore(pool: pools.customer, pepper: settings.keyPepper ?? [], time: time),
            targets: webhookClient, limitPerTenant: settings.webhooks.limitPerTenant)
        printer = PDFCommand(command: settings.invoices.pdfCommand)
        invoices = GatewayServer.Invoices(
            records: CustomerInvoiceStore(pool: pools.reader),
            subscriptions: CustomerSubscriptionStore(pool: pools.reader), printer: printer,
            balances: CustomerBalanceStore(pool: pools.reader))
        listener = try PostgresListener(
            configuration: DatabasePools.configuration(url: url, name: "directory", statementMilliseconds: 5_000),
            channels: ["weir_control"], logger: logger)
        records = CustomerStore(pool: pools.reader)
        let catalog = TierCatalogStore(pool: pools.reader)
        tiers = GatewayServer.Tiers(
            catalog: catalog,
            analyst: TierAnalyst(
                records: RatingStore(pool: pools.reader), catalog: catalog,
                series: UsageSeriesStore(pool: pools.reader), time: time))
        jobs = JobParts(settings: settings, pools: pools, gatewayID: gatewayID, time: time, logger: logger)
        watch = DatabaseWatch(time: time)
        health = ProcessHealth(
            watch: watch, settler: settler, routes: routes, rates: rates, cache: cache, isRedisConfigured: redis != nil)
    }

    func administration(_ settings: Settings, _ pools: DatabasePools) -> AdministrationStore {
        AdministrationStore(pool: pools.admin, reports: pools.reports, pepper: settings.keyPepper ?? [], time: time)
    }

    /// What issues invoices, for the admin listener and the monthly run alike.
    func issuing(_ settings: Settings, _ pools: DatabasePools) -> InvoiceIssuing {
        var configuration = InvoiceIssuing.Configuration()
        configuration.graceSeconds = Int64(settings.invoices.graceSeconds)
        configuration.dueDays = Int64(settings.invoices.dueDays)
        return InvoiceIssuing(
            records: administration(settings, pools),
            rating: RatingStore(pool: pools.reports),
            gate: Reconciler(books: ReconciliationStore(pool: pools.exportJobs)), configuration: configuration)
    }

    private static func cache(
        _ settings: Settings, redis: RedisClient?, pools: DatabasePools, time: any TimeSource, logger: Logger
    ) -> PredictionCache {
        var configuration = PredictionCache.Configuration()
        configuration.capacityBytes = settings.cacheBytes
        configuration.bytesPerMinute = settings.cacheBytesPerMinute
        configuration.standardTTLSeconds = Int64(settings.cacheDefaultSeconds)
        configuration.maximumTTLSeconds = Int64(settings.cacheMaximumSeconds)
        configuration.waitMilliseconds = Int64(settings.inferenceTimeoutMilliseconds)
        return PredictionCache(
            configuration: configuration, pepper: settings.keyPepper ?? [],
            shared: redis.map {
                RedisPredictionCache(
                    redis: $0, patienceMilliseconds: Int64(settings.cacheRedisTimeoutMilliseconds), time: time,
                    logger: logger)
            },
            store: PredictionCacheTable(pool: pools.claims, reads: pools.cache, directory: pools.directory), time: time,
            logger: logger)
    }

    private static func deliveries(_ settings: Settings, time: any TimeSource, logger: Logger) -> DeliveryDirectory {
        var defaults = DeliveryPolicy()
        defaults.totalMilliseconds = Int64(settings.inferenceTimeoutMilliseconds)
        defaults.firstByteMilliseconds = defaults.totalMilliseconds
        return DeliveryDirectory(defaults: defaults, time: time, logger: logger)
    }

    private static func rates(
        _ settings: Settings, redis: RedisClient?, gatewayID: GatewayID, time: any TimeSource, logger: Logger
    ) -> RateKeeper {
        var configuration = RateKeeper.Configuration()
        configuration.leaseMilliseconds = Int64(settings.rateLeaseMilliseconds)
        return RateKeeper(
            shared: redis.map {
                RedisRateLimiter(
                    redis: $0, gatewayID: gatewayID, leaseMilliseconds: configuration.leaseMilliseconds)
            },
            own: InProcessRateLimiter(
                gatewayID: gatewayID, leaseMilliseconds: configuration.leaseMilliseconds, time: time),
            configuration: configuration, time: time, logger: logger)
    }

    var gatewayParts: GatewayServer.Parts {
        var parts = GatewayServer.Parts(
            keys: keys, routes: routes, prices: prices, rates: rates, quota: quota, claims: claims, cache: cache,
            backend: WorkerBackend(client: workers),
            settler: settler,
            records: records, health: health, time: time)
        parts.refusals = refusals
        parts.webhooks = webhooks
        parts.tiers = tiers
        parts.invoices = invoices
        parts.batches = batches
        parts.exports = exports
        parts.mirrors = mirrors
        parts.proofs = proofs
        parts.jobs = jobs.gateway
        #if WEIR_FAULTS
            parts.faults = EnvironmentFaults(ProcessInfo.processInfo.environment)
        #endif
        return parts
    }

    /// Reads the routes once before the listeners open, so that the first request finds them and the log has the inventory.
    func warmUp(logger: Logger) async {
        if let redis {
            do throws(RedisError) {
                try await redis.warmUp()
            } catch {
                logger.warning("redis is away; routes come from the registry", metadata: ["cause": "\(error)"])
            }
        }
        await routes.refresh()
        await cache.refresh()
        do throws(StoreUnavailable) {
            try await ring.refresh()
        } catch {
            logger.warning("signing keys could not be read", metadata: ["cause": "\(error.cause)"])
        }
        logger.notice("routes read", metadata: ["models": "\(routes.current.table.models.count)"])
    }
}
