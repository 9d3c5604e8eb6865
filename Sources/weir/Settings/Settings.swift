import Domain
import Gateway
import InferenceClient
import Logging
import NIOCore

/// The whole configuration of a process, read once and validated.
struct Settings: Sendable {
    /// For libpq; `nil` where it was not given and not required. Secret.
    let databaseURL: String?
    /// Secret.
    let redisURL: String?
    let poolSize: Int
    /// Connections beyond `poolSize`.
    let poolOverflow: Int
    let poolTimeoutMilliseconds: Int
    let queryTimeoutMilliseconds: Int
    let slowQueryMilliseconds: Int
    let settlementWriters: Int
    let settlementLingerMicroseconds: Int
    let settlementQueueLimit: Int
    let leaseSeconds: Int
    let rateLeaseMilliseconds: Int
    let explainHours: Int
    let invoices: InvoiceSettings
    let cacheDefaultSeconds: Int
    let cacheMaximumSeconds: Int
    let cacheBytes: Int
    let cacheTableRows: Int
    let cacheBytesPerMinute: Int
    let cacheRedisTimeoutMilliseconds: Int
    let inferenceTimeoutMilliseconds: Int
    let metricsEnabled: Bool
    let host: String
    /// 0 takes any free port.
    let port: Int
    let adminHost: String
    let adminPort: Int
    let adminMaximumBodyBytes: Int
    let adminHeadTimeoutMilliseconds: Int
    let adminBodyTimeoutMilliseconds: Int
    let adminIdleTimeoutMilliseconds: Int
    let roles: Set<ServerRole>
    let jobConcurrency: Int
    let jobLeaseSeconds: Int
    let jobsPerTenant: Int
    let jobBackoffMilliseconds: Int
    /// The bytes under which API keys are hashed. Secret.
    let keyPepper: [UInt8]?
    /// Never 0: the number of cores where the setting is.
    let eventLoops: Int
    let logLevel: Logger.Level
    let maximumBodyBytes: Int
    let headTimeoutMilliseconds: Int
    let bodyTimeoutMilliseconds: Int
    let idleTimeoutMilliseconds: Int
    /// Blocks of addresses, as in `10.0.0.0/8`. A worker elsewhere is not called.
    let workerNetworks: [String]
    /// The same, as the client of workers takes it.
    let workerAddresses: WorkerAddressPolicy
    let batches: GatewayServer.BatchLimits
    let webhooks: WebhookSettings
    let exports: ExportSettings
    let stripe: StripeSettings
    let graceSeconds: Int
    let streamHeartbeatMilliseconds: Int
    let streamStallMilliseconds: Int
    let replicaDemand: ReplicaDemand
    let priceChangeFactor: Int
    /// Without a slash at the end.
    let adminURL: String
    /// Secret.
    let adminKey: String?
    /// What a person should know and what does not stop the start.
    let warnings: [String]

    /// Names that `weir serve` cannot do without.
    static let requiredToServe: Set<String> = ["DATABASE_URL", "WEIR_KEY_PEPPER"]

    /// Reads and checks everything.
    /// - Parameter required: variables that this command cannot do without.
    /// - Throws: ``ConfigurationFailure`` with all problems at once.
    static func load(_ source: SettingsSource, required: Set<String> = []) throws(ConfigurationFailure) -> Settings {
        var reader = SettingsReader(source, required: required)
        reader.checkTogether()
        guard reader.problems.isEmpty else {
            throw ConfigurationFailure(problems: reader.problems, warnings: reader.warnings)
        }
        return Settings(checked: reader)
    }

    private init(checked reader: SettingsReader) {
        databaseURL = reader.text("DATABASE_URL")
        redisURL = reader.text("REDIS_URL")
        poolSize = reader.number("DB_POOL_SIZE")
        poolOverflow = reader.number("DB_MAX_OVERFLOW")
        poolTimeoutMilliseconds = reader.number("DB_POOL_TIMEOUT")
        queryTimeoutMilliseconds = reader.number("QUERY_TIMEOUT")
        slowQueryMilliseconds = reader.number("WEIR_SLOW_QUERY_MS")
        settlementWriters = reader.number("WEIR_SETTLEMENT_WRITERS")
        settlementLingerMicroseconds = reader.number("WEIR_SETTLEMENT_LINGER_US")
        settlementQueueLimit = reader.number("WEIR_SETTLEMENT_QUEUE_LIMIT")
        leaseSeconds = reader.number("WEIR_LEASE_SECONDS")
        rateLeaseMilliseconds = reader.number("WEIR_RATE_LEASE_MS")
        explainHours = reader.number("WEIR_EXPLAIN_HOURS")
        invoices = InvoiceSettings(reader)
        cacheDefaultSeconds = reader.cacheDefaultSeconds
        cacheMaximumSeconds = reader.number("CACHE_MAX_TTL")
        cacheBytesPerMinute = reader.number("WEIR_CACHE_BYTES_PER_MINUTE")
        cacheTableRows = reader.number("WEIR_CACHE_TABLE_ROWS")
        cacheBytes = reader.number("WEIR_CACHE_BYTES")
        cacheRedisTimeoutMilliseconds = reader.number("WEIR_CACHE_REDIS_TIMEOUT_MS")
        inferenceTimeoutMilliseconds = reader.number("INFERENCE_TIMEOUT_SECONDS")
        metricsEnabled = reader.values["ENABLE_METRICS"] == .boolean(true)
        host = reader.text("WEIR_HOST") ?? ""
        port = reader.number("WEIR_PORT")
        adminHost = reader.text("WEIR_ADMIN_HOST") ?? ""
        adminPort = reader.number("WEIR_ADMIN_PORT")
        adminMaximumBodyBytes = reader.number("WEIR_ADMIN_MAX_BODY_BYTES")
        adminHeadTimeoutMilliseconds = reader.number("WEIR_ADMIN_HEAD_TIMEOUT_MS")
        adminBodyTimeoutMilliseconds = reader.number("WEIR_ADMIN_BODY_TIMEOUT_MS")
        adminIdleTimeoutMilliseconds = reader.number("WEIR_ADMIN_IDLE_TIMEOUT_MS")
        roles = if case .roles(let roles) = reader.values["WEIR_ROLES"] { roles } else { [] }
        jobConcurrency = reader.number("WEIR_JOB_CONCURRENCY")
        jobLeaseSeconds = reader.number("WEIR_JOB_LEASE_SECONDS")
        jobsPerTenant = reader.number("WEIR_JOBS_PER_TENANT")
        jobBackoffMilliseconds = reader.number("WEIR_JOB_BACKOFF_MS")
        keyPepper = reader.text("WEIR_KEY_PEPPER").map { Array($0.utf8) }
        let loops = reader.number("WEIR_EVENT_LOOPS")
        eventLoops = loops == 0 ? System.coreCount : loops
        logLevel = if case .logLevel(let level) = reader.values["WEIR_LOG_LEVEL"] { level } else { .info }
        maximumBodyBytes = reader.number("WEIR_MAX_BODY_BYTES")
        headTimeoutMilliseconds = reader.number("WEIR_HEAD_TIMEOUT_MS")
        bodyTimeoutMilliseconds = reader.number("WEIR_BODY_TIMEOUT_MS")
        idleTimeoutMilliseconds = reader.number("WEIR_IDLE_TIMEOUT_MS")
        streamHeartbeatMilliseconds = reader.number("WEIR_STREAM_HEARTBEAT_MS")
        streamStallMilliseconds = reader.number("WEIR_STREAM_STALL_MS")
        let networks: [String] =
            if case .networks(let blocks) = reader.values["WEIR_WORKER_NETWORKS"] { blocks } else { [] }
        workerNetworks = networks
        workerAddresses = WorkerAddressPolicy(allowing: networks) ?? .standard
        var batches = GatewayServer.BatchLimits()
        batches.fileBytes = Int64(reader.number("WEIR_FILE_MAX_BYTES"))
        batches.tenantBytes = Int64(reader.number("WEIR_FILE_TENANT_BYTES"))
        batches.openBatches = reader.number("WEIR_BATCH_LIMIT")
        self.batches = batches
        webhooks = WebhookSettings(reader)
        exports = ExportSettings(reader)
        stripe = StripeSettings(reader)
        graceSeconds = reader.number("WEIR_GRACE_SECONDS")
        replicaDemand = ReplicaDemand(
            concurrency: Int64(reader.number("WEIR_REPLICA_CONCURRENCY")),
            targetPercent: Int64(reader.number("WEIR_REPLICA_TARGET_PERCENT")),
            minimumReplicas: Int64(reader.number("WEIR_REPLICA_MIN")),
            maximumReplicas: Int64(reader.number("WEIR_REPLICA_MAX")))
        priceChangeFactor = reader.number("WEIR_PRICE_CHANGE_FACTOR")
        adminURL = reader.text("WEIR_ADMIN_URL") ?? ""
        adminKey = reader.text("WEIR_ADMIN_KEY")
        warnings = reader.warnings
    }

    /// The database's URL for a command that asked for it with `required`.
    func presentDatabaseURL() throws(ConfigurationFailure) -> String {
        guard let databaseURL else { throw ConfigurationFailure(problems: ["DATABASE_URL is not set"], warnings: []) }
        return databaseURL
    }

    /// The pepper for a command that asked for it with `required`.
    func presentKeyPepper() throws(ConfigurationFailure) -> [UInt8] {
        guard let keyPepper else { throw ConfigurationFailure(problems: ["WEIR_KEY_PEPPER is not set"], warnings: []) }
        return keyPepper
    }

    /// The admin key for a command that asked for it with `required`.
    func presentAdminKey() throws(ConfigurationFailure) -> String {
        guard let adminKey else { throw ConfigurationFailure(problems: ["WEIR_ADMIN_KEY is not set"], warnings: []) }
        return adminKey
    }
}

/// What is said of webhooks.
struct WebhookSettings: Sendable {
    let addresses: WebhookAddressPolicy
    let limitPerTenant: Int
    let timeoutMilliseconds: Int
    let retryMilliseconds: Int
    let retrySeconds: Int
    let disableSeconds: Int
    let keepHours: Int

    fileprivate init(_ reader: SettingsReader) {
        let networks: [String] =
            if case .networks(let blocks) = reader.values["WEIR_WEBHOOK_NETWORKS"] { blocks } else { [] }
        addresses =
            WebhookAddressPolicy(
                allowsHTTP: reader.values["WEIR_WEBHOOK_ALLOW_HTTP"] == .boolean(true), allowing: networks) ?? .standard
        limitPerTenant = reader.number("WEIR_WEBHOOK_LIMIT")
        timeoutMilliseconds = reader.number("WEIR_WEBHOOK_TIMEOUT_MS")
        retryMilliseconds = reader.number("WEIR_WEBHOOK_RETRY_MS")
        retrySeconds = reader.number("WEIR_WEBHOOK_RETRY_SECONDS")
        disableSeconds = reader.number("WEIR_WEBHOOK_DISABLE_SECONDS")
        keepHours = reader.number("WEIR_WEBHOOK_KEEP_HOURS")
    }
}

/// How invoices are issued.
struct InvoiceSettings: Sendable, Equatable {
    let graceSeconds: Int
    let dueDays: Int
    let isRunning: Bool
    let pdfCommand: String

    fileprivate init(_ reader: SettingsReader) {
        graceSeconds = reader.number("WEIR_INVOICE_GRACE")
        dueDays = reader.number("WEIR_INVOICE_DUE_DAYS")
        isRunning = reader.values["WEIR_INVOICE_RUN"] == .boolean(true)
        pdfCommand = reader.text("WEIR_PDF_COMMAND") ?? ""
    }
}

/// A configuration that cannot be used. The process exits with 78, `EX_CONFIG` of sysexits.h.
struct ConfigurationFailure: Error, CustomStringConvertible {
    /// One sentence each; no secret stands in them.
    let problems: [String]
    let warnings: [String]

    var description: String {
        (["The configuration cannot be used:"] + problems.map { "  - \($0)" } + warnings.map { "  note: \($0)" })
            .joined(separator: "\n")
    }
}

extension SettingsReader {
    func text(_ name: String) -> String? {
        if case .text(let text) = values[name] { text } else { nil }
    }

    /// Every setting that is read with this has a default, which a test holds against the catalogue.
    func number(_ name: String) -> Int {
        if case .number(let number) = values[name] { number } else { 0 }
    }

    /// The alias counts only where the setting itself was not given.
    fileprivate var cacheDefaultSeconds: Int {
        !isGiven("CACHE_DEFAULT_TTL") && isGiven("CACHE_TTL_SECONDS")
            ? number("CACHE_TTL_SECONDS") : number("CACHE_DEFAULT_TTL")
    }

    /// Checks that concern several settings.
    fileprivate mutating func checkTogether() {
        if isGiven("CACHE_DEFAULT_TTL"), isGiven("CACHE_TTL_SECONDS"),
            values["CACHE_DEFAULT_TTL"] != values["CACHE_TTL_SECONDS"]
        {
            complain("CACHE_DEFAULT_TTL and CACHE_TTL_SECONDS mean the same and differ: keep one of them")
        }
        let maximum = number("CACHE_MAX_TTL")
        if maximum > 0, cacheDefaultSeconds > maximum {
            complain("CACHE_DEFAULT_TTL is \(cacheDefaultSeconds), more than CACHE_MAX_TTL, which is \(maximum)")
        }
        if number("WEIR_REPLICA_MIN") > number("WEIR_REPLICA_MAX") {
            complain("WEIR_REPLICA_MIN is \(number("WEIR_REPLICA_MIN")), more than WEIR_REPLICA_MAX")
        }
        let port = number("WEIR_PORT")
        if let host = text("WEIR_HOST"), host == text("WEIR_ADMIN_HOST"), port != 0, port == number("WEIR_ADMIN_PORT"),
            case .roles(let roles) = values["WEIR_ROLES"], roles.isSuperset(of: [.gateway, .admin])
        {
            complain("WEIR_PORT and WEIR_ADMIN_PORT are both \(port): the two listeners need ports of their own")
        }
    }
}
