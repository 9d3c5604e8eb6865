import Admin
import Billing
import Logging
import NIOPosix
import ServiceLifecycle
import Storage

/// The admin listener.
enum AdminComposition {
    /// One line for each route: method, path.
    static var routes: [String] { AdminRouteCatalog.routes.map { "\($0.method) \($0.path)" } }

    static func make(
        settings: Settings, pools: DatabasePools, parts: ServerParts, eventLoops: MultiThreadedEventLoopGroup,
        metrics: PrometheusRegistry, logger: Logger
    ) -> any Service {
        var configuration = AdminServer.Configuration()
        configuration.host = settings.adminHost
        configuration.port = settings.adminPort
        configuration.maximumBodyBytes = settings.adminMaximumBodyBytes
        configuration.headTimeoutMilliseconds = Int64(settings.adminHeadTimeoutMilliseconds)
        configuration.bodyTimeoutMilliseconds = Int64(settings.adminBodyTimeoutMilliseconds)
        configuration.idleTimeoutMilliseconds = Int64(settings.adminIdleTimeoutMilliseconds)
        configuration.demand = settings.replicaDemand
        let administration = parts.administration(settings, pools)
        var renderMetrics: (@Sendable () -> String)?
        if settings.metricsEnabled { renderMetrics = { metrics.render() } }
        var adminParts = AdminServer.Parts(
            administration: administration, authenticator: parts.keys, prices: PriceStore(pool: pools.directory),
            metrics: renderMetrics, isAllowed: parts.isAllowedWorker,
            replicas: { parts.routes.deliveries.readings }, time: parts.time)
        adminParts.queue = administration
        let rating = RatingStore(pool: pools.reports)
        adminParts.tierStudies = AdminServer.TierStudies(
            analyst: TierAnalyst(
                records: rating, catalog: TierCatalogStore(pool: pools.reports),
                series: UsageSeriesStore(pool: pools.reports), time: parts.time),
            replayer: TierReplayer(records: rating, time: parts.time),
            issued: InvoiceReplayer(records: IssuedInvoiceStore(pool: pools.reports)))
        adminParts.priceChangeFactor = Int64(settings.priceChangeFactor)
        adminParts.stripe = administration
        adminParts.reconciliation = AdminReconciliation(
            reconciler: Reconciler(books: ReconciliationStore(pool: pools.exportJobs)), administration: administration)
        adminParts.exports = AdminExports(
            streams: UsageExportStore(pool: pools.exports, perTenant: settings.exports.streams),
            administration: administration, partRows: settings.exports.partRows)
        adminParts.reports = ReportStore(pool: pools.reports)
        adminParts.rating = rating
        adminParts.credits = administration
        adminParts.subscriptions = administration
        adminParts.adjustments = administration
        adminParts.prepaid = administration
        adminParts.changeAnswers = administration
        adminParts.invoices = AdminServer.Invoices(
            records: administration, issuing: parts.issuing(settings, pools), printer: parts.printer)
        adminParts.proofs = administration
        let server = AdminServer(
            configuration: configuration, parts: adminParts, eventLoops: eventLoops, logger: logger)
        let application = server.makeApplication { port in
            logger.notice(
                "serving", metadata: ["listener": "admin", "host": "\(settings.adminHost)", "port": "\(port)"])
        }
        return ListenerService(
            listener: application, host: settings.adminHost, port: settings.adminPort, variable: "WEIR_ADMIN_PORT")
    }
}
