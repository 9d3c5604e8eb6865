import Billing
import Domain
import Gateway
import InferenceClient
import Jobs
import Logging
import NIOPosix
import PostgresDriver
import RedisDriver
import ServiceLifecycle
import Storage

/// Puts the server together: settings to drivers, drivers to stores, stores to the listeners, and all of them into one ordered group.
enum ServerComposition {
    /// Runs until the process is told to stop.
    ///
    /// Stops in the order in which the parts depend on each other: the listeners finish what is in flight, quota is given back, the
    /// settlement writers empty their queues, and only then the connections close.
    @concurrent
    @inline(never)
    static func run(settings: Settings, logger: Logger, metrics: PrometheusRegistry) async throws {
        let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: settings.eventLoops)
        let pools = try DatabasePools(settings: settings, logger: logger)
        let base = try ServerParts(settings: settings, pools: pools, eventLoops: eventLoops, logger: logger)
        try await base.settler.start()
        base.redis?.start()
        await base.warmUp(logger: logger)

        var services: [any Service] = pools.all.map { $0 }
        services.append(base.listener)
        services.append(
            ControlRefresh(
                keys: base.keys, routes: base.routes, cache: base.cache, ring: base.ring, watch: base.watch,
                events: base.listener.events, logger: logger))
        if settings.roles.contains(.jobs) {
            let store = HousekeepingStore(pool: pools.jobs)
            services += StoreJobs.all(
                store, keepHours: settings.explainHours, cacheRowsPerTenant: settings.cacheTableRows, time: base.time,
                logger: logger)
            services.append(
                ReplicaDemandJob.make(store, demand: settings.replicaDemand, time: base.time, logger: logger) {
                    base.routes.current.table.models.map(\.profile.name)
                })
            services.append(BatchUpkeep.job(base.batchQueue, logger: logger))
            services += stripeJobs(settings: settings, pools: pools, logger: logger)
            services += exportJobs(settings: settings, pools: pools, logger: logger)
            services.append(
                PrepaidWatch.job(PrepaidWatching(records: base.administration(settings, pools)), logger: logger))
            services.append(SubscriptionChangeJob.job(base.administration(settings, pools), logger: logger))
            if settings.invoices.isRunning {
                services.append(InvoiceRun.job(base.issuing(settings, pools), logger: logger))
            }
            services += LedgerSealer.jobs(SealStore(pool: pools.sealer, ring: base.ring), logger: logger)
            services += webhookJobs(settings: settings, pools: pools, base: base, logger: logger)
        }
        if settings.roles.contains(.jobs) {
            services += QueueUpkeepJobs.all(QueueUpkeepStore(pool: pools.jobs), time: base.time, logger: logger)
        }
        services.append(
            SettlementService(settler: base.settler, graceMilliseconds: Int64(settings.graceSeconds) * 1_000))
        services.append(
            QuotaService(
                quota: base.quota, everyMilliseconds: min(Int64(settings.leaseSeconds) * 100, 500), logger: logger))
        services.append(
            ClaimService(claims: base.claims, everyMilliseconds: Int64(settings.leaseSeconds) * 250))
        services.append(
            RateService(rates: base.rates, everyMilliseconds: Int64(settings.rateLeaseMilliseconds) / 4))
        services.append(RefusalService(refusals: base.refusals, store: base.refusalStore, logger: logger))
        services.append(
            CacheService(cache: base.cache, graceMilliseconds: Int64(settings.graceSeconds) * 1_000))
        if settings.roles.contains(.admin) {
            services.append(
                AdminComposition.make(
                    settings: settings, pools: pools, parts: base, eventLoops: eventLoops, metrics: metrics,
                    logger: logger))
        }
        if !settings.roles.isDisjoint(with: [.gateway, .dispatcher]) {
            services.append(
                DeliveryService(
                    deliveries: base.routes.deliveries,
                    prober: ReplicaProber(
                        deliveries: base.routes.deliveries,
                        backend: WorkerProbeBackend(client: base.workers, eventLoops: eventLoops))))
            services.append(MirrorService(mirrors: base.mirrors))
            services.append(QueueService(queues: base.queues, logger: logger))
            let server = server(settings: settings, base: base, eventLoops: eventLoops, logger: logger)
            if settings.roles.contains(.gateway) {
                services.append(SubmissionService(submission: base.jobs.submission))
                var configuration = BatchKeeper.Configuration()
                configuration.lineBytes = settings.maximumBodyBytes
                services.append(
                    BatchService(
                        keeper: BatchKeeper(
                            queue: base.batchQueue, submitter: base.jobs.submission, jobs: base.jobs.gateway.records,
                            configuration: configuration, time: base.time, logger: logger)))
                services.append(WaiterService(waiters: base.jobs.gateway.waiters))
                services.append(try await gateway(server, settings: settings, logger: logger))
            }
            if settings.roles.contains(.dispatcher) {
                services += try await dispatcher(server, settings: settings, base: base, logger: logger)
            }
        }
        var configuration = ServiceGroupConfiguration(
            services: services.map { .init(service: $0) }, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(settings.graceSeconds + 10)
        do {
            try await ServiceGroup(configuration: configuration).run()
        } catch {
            await close(base, eventLoops)
            throw error
        }
        await close(base, eventLoops)
        logger.notice("stopped")
    }

    private static func stripeJobs(settings: Settings, pools: DatabasePools, logger: Logger) -> [any Service] {
        guard let key = settings.stripe.key else { return [] }
        var configuration = StripeSender.Configuration()
        configuration.retryMilliseconds = Int64(settings.stripe.retryMilliseconds)
        return StripeSender.jobs(
            StripeOutboxStore(pool: pools.jobs),
            transport: StripeClient(client: CommandHTTP.client, settings: settings.stripe, key: key),
            configuration: configuration, logger: logger)
    }

    private static func exportJobs(settings: Settings, pools: DatabasePools, logger: Logger) -> [any Service] {
        var configuration = ExportWriter.Configuration()
        configuration.leaseMilliseconds = Int64(settings.exports.leaseSeconds) * 1_000
        configuration.keepHours = settings.exports.keepHours
        return ExportWriter.jobs(
            ExportQueueStore(pool: pools.exportClaims, reports: pools.exportJobs), configuration: configuration,
            logger: logger)
    }

    private static func webhookJobs(
        settings: Settings, pools: DatabasePools, base: ServerParts, logger: Logger
    ) -> [any Service] {
        let outbox = WebhookOutboxStore(pool: pools.webhooks, pepper: settings.keyPepper ?? [])
        var configuration = WebhookSender.Configuration()
        configuration.policy = WebhookRetryPolicy(
            firstMilliseconds: Int64(settings.webhooks.retryMilliseconds),
            spanMilliseconds: Int64(settings.webhooks.retrySeconds) * 1_000)
        configuration.disableAfterMilliseconds = Int64(settings.webhooks.disableSeconds) * 1_000
        configuration.leaseMilliseconds = Int64(settings.webhooks.timeoutMilliseconds) + 20_000
        let sender = WebhookSender(
            outbox: outbox, transport: base.webhookClient, configuration: configuration, time: base.time, logger: logger
        )
        return [sender] + WebhookUpkeep.jobs(outbox, keepHours: settings.webhooks.keepHours, logger: logger)
    }

    /// One line for each route of a listener: method, path.
    static func routes(of listener: ServeCommand.PrintedListener) -> [String] {
        switch listener {
        case .public: RouteCatalog.publicRoutes.map { "\($0.method) \($0.path)" }
        case .admin: AdminComposition.routes
        }
    }

    private static func close(_ base: ServerParts, _ eventLoops: MultiThreadedEventLoopGroup) async {
        await base.workers.shutdown()
        base.webhookClient.shutdown()
        await base.redis?.shutdown()
        try? await eventLoops.shutdownGracefully()
    }

    private static func server(
        settings: Settings, base: ServerParts, eventLoops: MultiThreadedEventLoopGroup, logger: Logger
    ) -> GatewayServer {
        var configuration = GatewayServer.Configuration()
        configuration.host = settings.host
        configuration.port = settings.port
        configuration.maximumBodyBytes = settings.maximumBodyBytes
        configuration.headTimeoutMilliseconds = Int64(settings.headTimeoutMilliseconds)
        configuration.bodyTimeoutMilliseconds = Int64(settings.bodyTimeoutMilliseconds)
        configuration.idleTimeoutMilliseconds = Int64(settings.idleTimeoutMilliseconds)
        configuration.streams = StreamPatience(
            graceMilliseconds: Int64(settings.graceSeconds) * 1_000,
            heartbeatMilliseconds: Int64(settings.streamHeartbeatMilliseconds),
            stallMilliseconds: Int64(settings.streamStallMilliseconds))
        configuration.contract = EmbeddedContract.yaml
        return GatewayServer(
            configuration: configuration, parts: base.gatewayParts, eventLoops: eventLoops, logger: logger)
    }

    /// Stopped first of all, so that others can have its jobs while the rest of this process finishes.
    private static func dispatcher(
        _ server: GatewayServer, settings: Settings, base: ServerParts, logger: Logger
    ) async throws -> [any Service] {
        let dispatcher = try await server.makeDispatcher(queue: base.jobs.store, configuration: base.jobs.dispatcher)
        base.jobs.relay.connect(dispatcher)
        let listener = try PostgresListener(
            configuration: DatabasePools.configuration(
                url: settings.databaseURL ?? "", name: "directory", statementMilliseconds: 5_000),
            channels: ["weir_jobs"], logger: logger)
        return [listener, DispatcherService(dispatcher: dispatcher, events: listener.events)]
    }

    private static func gateway(
        _ server: GatewayServer, settings: Settings, logger: Logger
    ) async throws -> any Service {
        let application = try await server.makeApplication { port in
            logger.notice("serving", metadata: ["listener": "public", "host": "\(settings.host)", "port": "\(port)"])
        }
        return ListenerService(
            listener: application, host: settings.host, port: settings.port, variable: "WEIR_PORT")
    }
}
