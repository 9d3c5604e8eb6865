public import Billing
public import Domain
internal import HTTPListener
public import Hummingbird
internal import HummingbirdCore
public import LedgerProof
public import Logging
internal import NIOCore
public import NIOPosix
internal import ServiceLifecycle

/// Everything that the public listener is made of.
public struct GatewayServer: Sendable {
    public struct Configuration: Sendable {
        public var host = "127.0.0.1"
        /// 0 takes any free port.
        public var port = 8_080
        public var maximumBodyBytes = 1_048_576
        public var headTimeoutMilliseconds: Int64 = 10_000
        public var bodyTimeoutMilliseconds: Int64 = 30_000
        public var idleTimeoutMilliseconds: Int64 = 75_000
        public var streams = StreamPatience()
        /// The text of `openapi/weir.yaml`.
        public var contract = ""
        public init() {}
    }

    /// What the pipeline and the control plane stand on.
    public struct Parts: Sendable {
        public let keys: KeyCache
        public let routes: RouteDirectory
        public let prices: PriceBook
        public let rates: RateKeeper
        public let quota: QuotaKeeper
        public let claims: ClaimKeeper
        public let cache: PredictionCache
        public let backend: any InferenceBackend
        public let settler: any Settler
        public let records: any CustomerRecords
        public let health: any HealthSource
        public let time: any TimeSource
        /// Somebody has to flush it.
        public var refusals = RefusalBuffer()
        /// Files and batches; without it their routes are not there.
        public var batches: Batches?
        /// Streams of a customer's usage; without it their route is not there.
        public var exports: (any UsageExports)?
        /// The sealed ledger; without it its routes are not there.
        public var proofs: Proofs?
        /// Customers' webhooks; without it their routes are not there.
        public var webhooks: Webhooks?
        /// What customers may subscribe to; without it the routes are not there.
        public var tiers: Tiers?
        /// Customers' invoices; without it their routes are not there.
        public var invoices: Invoices?
        /// Its ``MirrorTraffic/run()`` is the caller's to run.
        public var mirrors = MirrorTraffic()
        /// What has to do with jobs; a server without it takes none.
        public var jobs: Jobs?
        #if WEIR_FAULTS
            public var faults: any FaultPlan = NoFaults()
        #endif

        public init(
            keys: KeyCache, routes: RouteDirectory, prices: PriceBook, rates: RateKeeper, quota: QuotaKeeper,
            claims: ClaimKeeper, cache: PredictionCache, backend: any InferenceBackend,
            settler: any Settler, records: any CustomerRecords, health: any HealthSource, time: any TimeSource
        ) {
            self.keys = keys
            self.routes = routes
            self.prices = prices
            self.rates = rates
            self.quota = quota
            self.claims = claims
            self.cache = cache
            self.backend = backend
            self.settler = settler
            self.records = records
            self.health = health
            self.time = time
        }
    }

    /// What a tenant's files and batches may take.
    public struct BatchLimits: Sendable {
        /// Bytes of one file.
        public var fileBytes: Int64 = 104_857_600
        /// Bytes of all files of a tenant.
        public var tenantBytes: Int64 = 1_073_741_824
        /// Files of a tenant, outputs and uploads under way included.
        public var tenantFiles = 10_000
        /// Batches of a tenant that have not ended.
        public var openBatches = 50
        public init() {}
    }

    /// What the routes of files and batches stand on.
    public struct Batches: Sendable {
        public let files: any FileRecords
        public let batches: any BatchRecords
        public let limits: BatchLimits

        public init(files: any FileRecords, batches: any BatchRecords, limits: BatchLimits) {
            self.files = files
            self.batches = batches
            self.limits = limits
        }
    }

    /// What tells customers of tiers.
    public struct Tiers: Sendable {
        public let catalog: any TierCatalog
        public let analyst: TierAnalyst

        public init(catalog: any TierCatalog, analyst: TierAnalyst) {
            self.catalog = catalog
            self.analyst = analyst
        }
    }

    /// What the routes of webhooks stand on.
    public struct Webhooks: Sendable {
        public let records: any WebhookRecords
        public let targets: any WebhookTargets
        /// How many a tenant may have.
        public let limitPerTenant: Int

        public init(records: any WebhookRecords, targets: any WebhookTargets, limitPerTenant: Int) {
            self.records = records
            self.targets = targets
            self.limitPerTenant = limitPerTenant
        }
    }

    /// What the routes of invoices, credits and the subscription stand on.
    public struct Invoices: Sendable {
        public let records: any CustomerInvoices
        public let subscriptions: any CustomerSubscriptions
        public let printer: any InvoicePrinter
        public let balances: any CustomerBalances

        public init(
            records: any CustomerInvoices, subscriptions: any CustomerSubscriptions, printer: any InvoicePrinter,
            balances: any CustomerBalances
        ) {
            self.balances = balances
            self.records = records
            self.subscriptions = subscriptions
            self.printer = printer
        }
    }

    /// What the routes of the sealed ledger stand on.
    public struct Proofs: Sendable {
        public let records: any LedgerProofRecords
        public let ring: SigningKeyRing

        public init(records: any LedgerProofRecords, ring: SigningKeyRing) {
            self.records = records
            self.ring = ring
        }
    }

    /// The parts that take jobs in and tell of them.
    public struct Jobs: Sendable {
        public let desk: JobDesk
        public let records: any JobRecords
        /// Its ``JobWaiters/run()`` is the caller's to run.
        public let waiters: JobWaiters

        public init(desk: JobDesk, records: any JobRecords, waiters: JobWaiters) {
            self.desk = desk
            self.records = records
            self.waiters = waiters
        }
    }

    private let configuration: Configuration
    private let parts: Parts
    private let eventLoops: MultiThreadedEventLoopGroup
    private let logger: Logger
    private let estimates = TokenEstimates()

    public init(configuration: Configuration, parts: Parts, eventLoops: MultiThreadedEventLoopGroup, logger: Logger) {
        self.configuration = configuration
        self.parts = parts
        self.eventLoops = eventLoops
        self.logger = logger
    }

    /// Builds the server as a service.
    /// - Parameter onListening: called with the port once connections are accepted.
    public func makeApplication(onListening: @escaping @Sendable (Int) async -> Void) async throws
        -> some ApplicationProtocol
    {
        let loops = try await LoopContexts(group: eventLoops)
        #if WEIR_FAULTS
            let pipeline = makePipeline(faults: parts.faults)
        #else
            let pipeline = makePipeline()
        #endif
        let makeHandlers = handlers(pipeline: pipeline, loops: loops)
        var application = Application(
            responder: ControlPlane(
                parts: parts, contract: configuration.contract, maximumBodyBytes: configuration.maximumBodyBytes,
                estimates: estimates, statistics: pipeline.statistics
            ).makeRouter().buildResponder(),
            server: HTTPServerBuilder { responder in GuardedChannel(responder: responder, makeHandlers: makeHandlers) },
            configuration: .init(address: .hostname(configuration.host, port: configuration.port), serverName: nil),
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) },
            eventLoopGroupProvider: .shared(eventLoops),
            logger: logger)
        application.addServices(IdleRunners(loops: loops))
        return application
    }

    /// Builds what runs jobs, on the event loops and with the parts of this server, whose listener need not run for it.
    public func makeDispatcher(
        queue: any JobQueue, configuration: JobDispatcher.Configuration
    ) async throws -> JobDispatcher {
        let loops = try await LoopContexts(group: eventLoops)
        #if WEIR_FAULTS
            let pipeline = makePipeline(faults: parts.faults)
        #else
            let pipeline = makePipeline()
        #endif
        return JobDispatcher(
            queue: queue, pipeline: pipeline, keys: parts.keys, loops: loops.all, waiters: parts.jobs?.waiters,
            configuration: configuration, time: parts.time, logger: logger)
    }

    /// Ends the tasks that wait for requests when the server stops; each of them holds the pipeline.
    private struct IdleRunners: Service {
        let loops: LoopContexts

        func run() async throws {
            try? await gracefulShutdown()
            try await loops.endIdleRunners()
        }
    }

    #if WEIR_FAULTS
        private func makePipeline(faults: any FaultPlan) -> InferencePipeline {
            InferencePipeline(
                keys: parts.keys, routes: parts.routes, prices: parts.prices, rates: parts.rates, quota: parts.quota,
                claims: parts.claims, cache: parts.cache, dispatch: dispatch, settler: parts.settler,
                estimates: estimates, refusals: parts.refusals, mirrors: parts.mirrors, jobs: parts.jobs?.desk,
                time: parts.time,
                logger: logger,
                faults: faults)
        }
    #else
        private func makePipeline() -> InferencePipeline {
            InferencePipeline(
                keys: parts.keys, routes: parts.routes, prices: parts.prices, rates: parts.rates, quota: parts.quota,
                claims: parts.claims, cache: parts.cache, dispatch: dispatch, settler: parts.settler,
                estimates: estimates, refusals: parts.refusals, mirrors: parts.mirrors, jobs: parts.jobs?.desk,
                time: parts.time, logger: logger
            )
        }
    #endif

    private var dispatch: Dispatch { Dispatch(backend: parts.backend, time: parts.time) }

    private func handlers(
        pipeline: InferencePipeline, loops: LoopContexts
    ) -> @Sendable (any EventLoop) -> GuardedChannel.Handlers {
        let limits = ConnectionDeadlines.Limits(
            headMilliseconds: configuration.headTimeoutMilliseconds,
            bodyMilliseconds: configuration.bodyTimeoutMilliseconds,
            idleMilliseconds: configuration.idleTimeoutMilliseconds)
        let maximumBodyBytes = configuration.maximumBodyBytes
        let problems = ProblemStyle(instance: .request, dialect: { ErrorDialect(path: $0) }) {
            RequestMetrics.refused($0, route: "guard")
        }
        let time = parts.time
        let patience = configuration.streams
        return { eventLoop in
            // Every connection of this group's listener is on one of its loops.
            let loop = loops[eventLoop] ?? LoopContext(eventLoop: eventLoop)
            // The data plane gives leave to send a body only to who may be a customer.
            let guardian = ConnectionGuard(
                rules: RequestRules(), limits: limits, problems: problems, writesContinue: false, time: time)
            let dataPlane = DataPlaneHandler(
                pipeline: pipeline, maximumBodyBytes: maximumBodyBytes, loop: loop, time: time, guardian: guardian,
                patience: patience)
            return GuardedChannel.Handlers(
                framing: MessageFraming(guardian: guardian) { dataPlane.takePlain($0) }, guardian: guardian,
                behind: [dataPlane])
        }
    }
}

/// The routes that Hummingbird serves.
struct ControlPlane: Sendable {
    let parts: GatewayServer.Parts
    let contract: String
    let maximumBodyBytes: Int
    let estimates: TokenEstimates
    let statistics: InferenceStatistics

    func makeRouter() -> Router<ControlContext> {
        let router = Router(context: ControlContext.self, options: .autoGenerateHeadEndpoints)
        router.add(
            middleware: ProblemMiddleware(
                style: ProblemStyle(instance: .request, dialect: { ErrorDialect(path: $0) }) {
                    RequestMetrics.refused($0, route: "control")
                },
                maximumBodyBytes: maximumBodyBytes, methods: RouteCatalog.methods))
        let health = HealthEndpoint(health: parts.health, contract: contract)
        router.get("/", use: health.root)
        router.get("/health", use: health.overview)
        router.get("/healthz", use: health.alive)
        router.get("/readyz", use: health.ready)
        router.get("/openapi.yaml", use: health.openAPI)
        addOpenInference(to: router)
        let requests = RequestsEndpoint(records: parts.records, prices: parts.prices, jobs: parts.jobs?.records)
        let reading = router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: .read))
        reading.get("/status/{id}", use: requests.status)
        reading.get("/api/v1/requests", use: requests.list)
        reading.get("/api/v1/requests/{id}", use: requests.one)
        reading.get("/api/v1/requests/{id}/result", use: ResultEndpoint(records: parts.records).get)
        reading.get(
            "/api/v1/requests/{id}/explain",
            use: ExplanationEndpoint(records: parts.records, prices: parts.prices).get)
        let organization = OrganizationUsageEndpoint(records: parts.records, prices: parts.prices, time: parts.time)
        reading.get("/v1/organization/usage/completions", use: organization.completions)
        reading.get("/v1/organization/costs", use: organization.costs)
        let models = ModelsEndpoint(routes: parts.routes)
        if let jobs = parts.jobs {
            let endpoint = JobsEndpoint(records: jobs.records, waiters: jobs.waiters, time: parts.time)
            reading.get("/api/v1/jobs/{id}", use: endpoint.one)
            reading.get("/api/v1/jobs/{id}/result", use: endpoint.result)
            router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: .predict))
                .delete("/api/v1/jobs/{id}", use: endpoint.cancel)
        }
        let any = router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: nil))
        any.get("/api/v1/quota", use: QuotaEndpoint(records: parts.records, rates: parts.rates, quota: parts.quota).get)
        any.get("/v1/models", use: models.list)
        any.get("/v1/models/{id}", use: models.one)
        any.post(
            "/api/v1/quote",
            use: QuoteEndpoint(
                records: parts.records, routes: parts.routes, prices: parts.prices, quota: parts.quota,
                maximumBodyBytes: maximumBodyBytes, estimates: estimates
            ).post)
        let billing = router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: .billing))
        billing.get(
            "/api/v1/usage", use: UsageEndpoint(records: parts.records, prices: parts.prices, time: parts.time).get)
        if let tiers = parts.tiers {
            let endpoint = TiersEndpoint(tiers: tiers)
            billing.get("/api/v1/tiers", use: endpoint.list)
            billing.get("/api/v1/tiers/analysis", use: endpoint.analysis)
        }
        if let exports = parts.exports {
            billing.get("/api/v1/usage/export", use: UsageExportEndpoint(exports: exports, time: parts.time).get)
        }
        billing.get("/api/v1/usage/summary", use: UsageSummaryEndpoint(records: parts.records, time: parts.time).get)
        if let invoices = parts.invoices { addInvoices(invoices, to: billing) }
        if let proofs = parts.proofs { addProofs(proofs, to: router, billing: billing) }
        if let webhooks = parts.webhooks { addWebhooks(webhooks, to: router) }
        if let batches = parts.batches { addBatches(batches, to: router) }
        return router
    }

    private func addOpenInference(to router: Router<ControlContext>) {
        let openInference = OpenInferenceEndpoint(routes: parts.routes, health: parts.health, statistics: statistics)
        router.get("/v2", use: openInference.server)
        router.get("/v2/health/live", use: openInference.live)
        router.get("/v2/health/ready", use: openInference.ready)
        let models = router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: nil))
        models.get("/v2/models/stats", use: openInference.allStatistics)
        for model: RouterPath in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
            models.get(model, use: openInference.metadata)
            models.get(model.appendingPath("ready"), use: openInference.modelReady)
            models.get(model.appendingPath("stats"), use: openInference.modelStatistics)
        }
        models.get("/v2/repository/index", use: openInference.index)
        models.post("/v2/repository/index", use: openInference.index)
    }

    private func addInvoices(_ parts: GatewayServer.Invoices, to billing: RouterGroup<ControlContext>) {
        let endpoint = InvoicesEndpoint(
            invoices: parts.records, printer: parts.printer, balances: parts.balances)
        billing.get("/api/v1/subscription", use: SubscriptionEndpoint(subscriptions: parts.subscriptions).get)
        billing.get("/api/v1/credits", use: endpoint.credits)
        billing.get("/api/v1/invoices", use: endpoint.list)
        billing.get("/api/v1/invoices/{id}.html", use: endpoint.html)
        billing.get("/api/v1/invoices/{id}.pdf", use: endpoint.pdf)
        billing.get("/api/v1/invoices/{id}.csv", use: endpoint.csv)
        billing.get("/api/v1/invoices/{id}", use: endpoint.one)
        billing.get("/api/v1/invoices/{id}/lines/{line}/requests", use: endpoint.requests)
    }

    private func addBatches(_ parts: GatewayServer.Batches, to router: Router<ControlContext>) {
        let routes = router.group().add(middleware: CustomerAuthentication(keys: self.parts.keys, scope: .predict))
        let reading = router.group().add(middleware: CustomerAuthentication(keys: self.parts.keys, scope: .read))
        let files = FilesEndpoint(files: parts.files, limits: parts.limits)
        routes.post("/v1/files", use: files.upload)
        reading.get("/v1/files", use: files.list)
        reading.get("/v1/files/{id}", use: files.one)
        routes.delete("/v1/files/{id}", use: files.remove)
        reading.get("/v1/files/{id}/content", use: files.content)
        let batches = BatchesEndpoint(batches: parts.batches, limits: parts.limits)
        routes.post("/v1/batches", use: batches.add)
        reading.get("/v1/batches", use: batches.list)
        reading.get("/v1/batches/{id}", use: batches.one)
        routes.post("/v1/batches/{id}/cancel", use: batches.cancel)
    }

    private func addProofs(
        _ proofs: GatewayServer.Proofs, to router: Router<ControlContext>, billing: RouterGroup<ControlContext>
    ) {
        let ledger = LedgerEndpoint(records: proofs.records)
        router.get("/.well-known/weir-keys", use: SigningKeysEndpoint(ring: proofs.ring).get)
        billing.get("/api/v1/ledger/head", use: ledger.head)
        billing.get("/api/v1/ledger/entries", use: ledger.entries)
        billing.get("/api/v1/ledger/proofs/{request}", use: ledger.proof)
        router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: .admin))
            .get("/api/v1/audit", use: TenantAuditEndpoint(records: proofs.records).list)
    }

    private func addWebhooks(_ webhooks: GatewayServer.Webhooks, to router: Router<ControlContext>) {
        let endpoint = WebhooksEndpoint(
            webhooks: webhooks.records, targets: webhooks.targets, limitPerTenant: webhooks.limitPerTenant)
        let routes = router.group().add(middleware: CustomerAuthentication(keys: parts.keys, scope: .webhooks))
        routes.get("/api/v1/webhooks", use: endpoint.list)
        routes.post("/api/v1/webhooks", use: endpoint.add)
        routes.post("/api/v1/webhooks/deliveries/{id}/retry", use: endpoint.retry)
        routes.get("/api/v1/webhooks/{id}", use: endpoint.one)
        routes.delete("/api/v1/webhooks/{id}", use: endpoint.remove)
        routes.get("/api/v1/webhooks/{id}/deliveries", use: endpoint.deliveries)
        routes.post("/api/v1/webhooks/{id}/rotate", use: endpoint.rotate)
        routes.post("/api/v1/webhooks/{id}/enable", use: endpoint.enable)
    }
}
