public import Billing
public import Domain
internal import HTTPListener
public import Hummingbird
internal import HummingbirdCore
public import Logging
public import NIOCore

/// The admin listener: tenants, keys, tiers, models, routes, usage, the audit log and metrics.
public struct AdminServer: Sendable {
    public struct Configuration: Sendable {
        public var host = "127.0.0.1"
        /// 0 takes any free port.
        public var port = 8_081
        /// What no route reads more of; a tier with many prices is the longest body that there is.
        public var maximumBodyBytes = 262_144
        public var headTimeoutMilliseconds: Int64 = 10_000
        public var bodyTimeoutMilliseconds: Int64 = 30_000
        public var idleTimeoutMilliseconds: Int64 = 75_000
        /// What the figure of desired replicas follows from.
        public var demand = ReplicaDemand(
            concurrency: 1, targetPercent: 70, minimumReplicas: 1, maximumReplicas: 100)
        public init() {}
    }

    /// What the listener stands on.
    public struct Parts: Sendable {
        public let administration: any Administration
        public let authenticator: any AdminAuthenticator
        public let prices: any PriceSource
        /// The text in Prometheus' format; `nil` leaves the route out.
        public let metrics: (@Sendable () -> String)?
        /// Which workers a route may name.
        public let isAllowed: @Sendable (WorkerAddress) -> Bool
        /// How the replicas are.
        public let replicas: @Sendable () -> [ReplicaReading]
        public let time: any TimeSource
        /// The queue of jobs.
        public var queue: (any QueueAdministration)?
        /// What tiers would have cost; without it the routes are not there.
        public var tierStudies: TierStudies?
        /// By how much a price, fee or included amount may move in a new version of a tier without a word.
        public var priceChangeFactor: Int64 = 3
        /// Exports of usage.
        public var exports: AdminExports?
        /// Comparisons of the books.
        public var reconciliation: AdminReconciliation?
        /// Customers at Stripe.
        public var stripe: (any StripeAdministration)?
        /// What reports over all tenants are made of; `nil` leaves their routes out.
        public var reports: (any ReportRecords)?
        /// What forecasts are rated from; `nil` leaves their route out.
        public var rating: (any RatingRecords)?
        public var invoices: Invoices?
        public var credits: (any CreditAdministration)?
        public var subscriptions: (any SubscriptionAdministration)?
        public var adjustments: (any AdjustmentRecords)?
        public var prepaid: (any PrepaidRecords)?
        /// Changes that can be sent again; without it the header `Idempotency-Key` says nothing.
        public var changeAnswers: (any ChangeAnswers)?
        /// Signing keys and sealed chains.
        public var proofs: (any ProofAdministration)?

        public init(
            administration: any Administration, authenticator: any AdminAuthenticator, prices: any PriceSource,
            metrics: (@Sendable () -> String)?, isAllowed: @escaping @Sendable (WorkerAddress) -> Bool,
            replicas: @escaping @Sendable () -> [ReplicaReading] = { [] }, time: any TimeSource
        ) {
            self.administration = administration
            self.authenticator = authenticator
            self.prices = prices
            self.metrics = metrics
            self.isAllowed = isAllowed
            self.replicas = replicas
            self.time = time
        }
    }

    /// What finds out what tiers would have cost.
    public struct TierStudies: Sendable {
        public let analyst: TierAnalyst
        public let replayer: TierReplayer
        public let issued: InvoiceReplayer

        public init(analyst: TierAnalyst, replayer: TierReplayer, issued: InvoiceReplayer) {
            self.analyst = analyst
            self.replayer = replayer
            self.issued = issued
        }
    }

    /// What the routes of invoices stand on.
    public struct Invoices: Sendable {
        public let records: any InvoiceRecords
        public let issuing: InvoiceIssuing
        public let printer: any InvoicePrinter

        public init(records: any InvoiceRecords, issuing: InvoiceIssuing, printer: any InvoicePrinter) {
            self.records = records
            self.issuing = issuing
            self.printer = printer
        }
    }

    private let configuration: Configuration
    private let parts: Parts
    private let eventLoops: any EventLoopGroup
    private let logger: Logger

    public init(configuration: Configuration, parts: Parts, eventLoops: any EventLoopGroup, logger: Logger) {
        self.configuration = configuration
        self.parts = parts
        self.eventLoops = eventLoops
        self.logger = logger
    }

    /// Builds the server as a service.
    /// - Parameter onListening: called with the port once connections are accepted.
    public func makeApplication(onListening: @escaping @Sendable (Int) async -> Void) -> some ApplicationProtocol {
        let limits = ConnectionDeadlines.Limits(
            headMilliseconds: configuration.headTimeoutMilliseconds,
            bodyMilliseconds: configuration.bodyTimeoutMilliseconds,
            idleMilliseconds: configuration.idleTimeoutMilliseconds)
        let rules = RequestRules(maximumBodyBytes: configuration.maximumBodyBytes)
        let time = parts.time
        return Application(
            responder: AdminRouter(
                parts: parts, maximumBodyBytes: configuration.maximumBodyBytes, demand: configuration.demand
            ).makeResponder(),
            server: HTTPServerBuilder { responder in
                GuardedChannel(responder: responder) { _ in
                    let guardian = ConnectionGuard(
                        rules: rules, limits: limits, problems: AdminRouter.problems, writesContinue: true, time: time)
                    return GuardedChannel.Handlers(framing: MessageFraming(guardian: guardian), guardian: guardian)
                }
            },
            configuration: .init(address: .hostname(configuration.host, port: configuration.port), serverName: nil),
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) },
            eventLoopGroupProvider: .shared(eventLoops),
            logger: logger)
    }
}

/// Registers the catalog's routes; there is no other.
struct AdminRouter: Sendable {
    let parts: AdminServer.Parts
    let maximumBodyBytes: Int
    let demand: ReplicaDemand

    static let problems = ProblemStyle(instance: .uuid) { AdminMetrics.refused($0) }

    func makeResponder() -> some HTTPResponder<AdminContext> {
        let router = Router(context: AdminContext.self)
        router.add(
            middleware: ProblemMiddleware(
                style: Self.problems, maximumBodyBytes: maximumBodyBytes, methods: AdminRouteCatalog.methods))
        let replay = ChangeReplay(answers: parts.changeAnswers)
        for entry in AdminRouteCatalog.routes {
            let isRepeatable = AdminRouteCatalog.repeatable.contains(entry.operation)
            guard let method = HTTPRequest.Method(entry.method), let handle = handler(of: entry.operation) else {
                continue
            }
            let gate = AdminGate(
                authenticator: parts.authenticator, entry: entry, maximumBodyBytes: maximumBodyBytes)
            router.on(RouterPath(entry.path), method: method) { request, context in
                let call = try await gate.admit(request, context)
                let response = isRepeatable ? try await replay.answer(call, handle) : try await handle(call)
                AdminMetrics.answered(entry.operation)
                return response
            }
        }
        return router.buildResponder()
    }

    typealias Handler = @Sendable (AdminCall) async throws -> Response

    private func handler(of operation: AdminRouteCatalog.Operation) -> Handler? {
        let tenants = TenantsEndpoint(administration: parts.administration)
        let keys = KeysEndpoint(administration: parts.administration, time: parts.time)
        let tiers = TiersEndpoint(
            administration: parts.administration, time: parts.time, priceChangeFactor: parts.priceChangeFactor)
        let studies = parts.tierStudies.map {
            TierStudiesEndpoint(administration: parts.administration, studies: $0)
        }
        let quotas = QuotasEndpoint(administration: parts.administration)
        let models = ModelsEndpoint(administration: parts.administration)
        let routes = RoutesEndpoint(administration: parts.administration, isAllowed: parts.isAllowed)
        let versions = ModelRoutingEndpoint(administration: parts.administration)
        let aliases = AliasesEndpoint(administration: parts.administration)
        let workers = WorkersEndpoint(administration: parts.administration, isAllowed: parts.isAllowed)
        let usage = UsageEndpoint(administration: parts.administration, prices: parts.prices, time: parts.time)
        let cache = CacheEndpoint(administration: parts.administration)
        let exports = ExportsEndpoint(exports: parts.exports, time: parts.time)
        let reconciliation = ReconciliationEndpoint(reconciliation: parts.reconciliation, time: parts.time)
        let stripe = StripeEndpoint(stripe: parts.stripe, time: parts.time)
        let queue = QueueEndpoint(queue: parts.queue, time: parts.time)
        let modelUsage = ModelUsageEndpoint(
            administration: parts.administration, demand: demand, time: parts.time)
        let audit = AuditEndpoint(administration: parts.administration)
        let credits = CreditsEndpoint(credits: parts.credits)
        let adjustments = AdjustmentsEndpoint(adjustments: parts.adjustments, prepaid: parts.prepaid)
        let subscriptions = SubscriptionsEndpoint(subscriptions: parts.subscriptions)
        let ledger = LedgerEndpoint(proofs: parts.proofs)
        switch operation {
        case .getMetrics: return parts.metrics.map { MetricsEndpoint(text: $0).get }
        case .listTenants: return tenants.list
        case .createTenant: return tenants.create
        case .getTenant: return tenants.one
        case .changeTenant: return tenants.change
        case .listKeys: return keys.list
        case .createKey: return keys.create
        case .changeKey: return keys.change
        case .revokeKey: return keys.revoke
        case .listTiers: return tiers.list
        case .createTier: return tiers.create
        case .getTier: return tiers.one
        case .listTierVersions: return tiers.versions
        case .draftTierVersion: return tiers.draft
        case .getTierVersion: return tiers.version
        case .changeTierVersion: return tiers.change
        case .deleteTierVersion: return tiers.delete
        case .publishTierVersion: return tiers.publish
        case .retireTierVersion: return tiers.retire
        case .replayTierVersion: return studies?.replay
        case .listTierReplays: return studies?.replays
        case .replayIssuedInvoices: return studies?.replayIssued
        case .analyseTiers: return studies?.analysis
        case .listQuotas: return quotas.list
        case .setQuota: return quotas.set
        case .raiseQuota: return quotas.raise
        case .deleteQuota: return quotas.delete
        case .listQuotaEvents: return quotas.events
        case .listModels: return models.list
        case .createModel: return models.create
        case .setDelivery: return models.setDelivery
        case .listReplicas: return ReplicasEndpoint(readings: parts.replicas).list
        case .getModelRouting: return versions.get
        case .changeModelRouting: return versions.change
        case .setModelVersion: return versions.setVersion
        case .listAliases: return aliases.list
        case .setAlias: return aliases.set
        case .deleteAlias: return aliases.delete
        case .listWorkers: return workers.list
        case .registerWorker: return workers.register
        case .renewWorker: return workers.renew
        case .removeWorker: return workers.remove
        case .setModelCache: return cache.setPolicy
        case .runReconciliation: return reconciliation.run
        case .listReconciliations: return reconciliation.list
        case .getStripeCustomer: return stripe.customer
        case .setStripeCustomer: return stripe.setCustomer
        case .listStripeDeliveries: return stripe.deliveries
        case .retryStripeDelivery: return stripe.retry
        case .exportUsage: return exports.stream
        case .listExports: return exports.list
        case .createExport: return exports.create
        case .getExport: return exports.one
        case .cancelExport: return exports.cancel
        case .getExportManifest: return exports.manifest
        case .getExportPart: return exports.part
        case .getCacheStatistics: return cache.statistics
        case .clearCache: return cache.clear
        case .getQueue: return queue.depth
        case .listDeadJobs: return queue.dead
        case .retryDeadJob: return queue.retry
        case .getModelUsage: return modelUsage.get
        case .listRoutes: return routes.list
        case .setRoute: return routes.set
        case .deleteRoute: return routes.delete
        case .getAllUsage: return usage.all
        case .getTenantUsage: return usage.ofTenant
        case .rebuildUsage: return modelUsage.rebuild
        case .listAudit: return audit.list
        case .reportUsage, .reportTopCustomers, .reportRevenueByTier, .reportErrors, .reportLatency,
            .reportForecast:
            return report(operation)
        case .getSubscription: return subscriptions.get
        case .changeSubscription: return subscriptions.change
        case .cancelSubscriptionChange: return subscriptions.cancel
        case .postAdjustment: return adjustments.post
        case .setPrepaid: return adjustments.setPrepaid
        case .listCredits: return credits.list
        case .grantCredit: return credits.grant
        case .revokeCredit: return credits.revoke
        case .exportAudit: return ledger.exportAudit
        case .verifyLedger: return ledger.verify
        case .rotateSigningKey: return ledger.rotate
        case .distrustSigningKey: return ledger.distrust
        default: return invoiceHandler(of: operation)
        }
    }

    private func report(_ operation: AdminRouteCatalog.Operation) -> Handler? {
        guard let records = parts.reports else { return nil }
        let reports = ReportsEndpoint(records: records, prices: parts.prices, time: parts.time)
        switch operation {
        case .reportUsage: return reports.usage
        case .reportTopCustomers: return reports.topCustomers
        case .reportRevenueByTier: return reports.revenueByTier
        case .reportErrors: return reports.errors
        case .reportLatency: return reports.latency
        case .reportForecast:
            return parts.rating.map { ForecastEndpoint(records: records, rating: $0, time: parts.time).get }
        default: return nil
        }
    }

    private func invoiceHandler(of operation: AdminRouteCatalog.Operation) -> Handler? {
        let invoices = InvoicesEndpoint(parts: parts.invoices)
        switch operation {
        case .listInvoices: return invoices.list
        case .draftInvoice: return invoices.draft
        case .runInvoices: return invoices.run
        case .getInvoice: return invoices.one
        case .getInvoicePage: return invoices.html
        case .getInvoicePDF: return invoices.pdf
        case .getInvoiceTable: return invoices.csv
        case .finaliseInvoice: return invoices.finalise
        case .payInvoice: return invoices.pay
        case .voidInvoice: return invoices.void
        case .creditInvoice: return invoices.credit
        case .listIssuers: return invoices.issuers
        case .setIssuer: return invoices.setIssuer
        default: return nil
        }
    }
}
