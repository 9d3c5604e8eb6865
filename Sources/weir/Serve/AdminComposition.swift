import Admin
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
        let administration = AdministrationStore(
            pool: pools.admin, reports: pools.reports, pepper: settings.keyPepper ?? [], time: parts.time)
        var renderMetrics: (@Sendable () -> String)?
        if settings.metricsEnabled { renderMetrics = { metrics.render() } }
        var adminParts = AdminServer.Parts(
            administration: administration, authenticator: parts.keys, prices: PriceStore(pool: pools.directory),
            metrics: renderMetrics, isAllowed: parts.isAllowedWorker,
            replicas: { parts.routes.deliveries.readings }, time: parts.time)
        adminParts.queue = administration
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
