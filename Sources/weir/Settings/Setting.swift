/// One variable of the configuration, as the table in `docs/configuration.md` lists it.
struct Setting: Sendable {
    /// The environment variable's name; the same name stands in a configuration file and behind `--set`.
    let name: String
    /// What its text may be.
    let kind: SettingKind
    /// The text that counts where none is given; `nil` where absence means something of its own.
    let defaultText: String?
    /// One sentence for a person.
    let meaning: String
    /// Secrets are never repeated in a message, are refused on the command line and may come from the file that
    /// `NAME_FILE` names.
    let isSecret: Bool

    init(
        _ name: String, _ kind: SettingKind, default defaultText: String? = nil, isSecret: Bool = false,
        _ meaning: String
    ) {
        self.name = name
        self.kind = kind
        self.defaultText = defaultText
        self.isSecret = isSecret
        self.meaning = meaning
    }

    /// The variable that names a file with this setting's value; secrets only.
    var fileVariable: String? { isSecret ? name + "_FILE" : nil }
}

/// Every variable that Weir reads. Parsing, the documentation's table and `.env.example` follow from this list.
enum SettingsCatalog {
    static let all: [Setting] =
        database + redisAndCache + serving + jobs + batches + webhooks + exports + stripe + invoices + operation
        + client

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    static func setting(named name: String) -> Setting? { byName[name] }

    /// Variables that begin with `WEIR_` and belong to tests or to the build, not to the configuration.
    static func isForTests(_ name: String) -> Bool {
        name.hasPrefix("WEIR_TEST_") || ["WEIR_BINARY", "WEIR_FAULT", "WEIR_MUTANT"].contains(name)
    }

    private static let database: [Setting] = [
        Setting(
            "DATABASE_URL", .databaseURL, isSecret: true,
            "PostgreSQL, as `postgresql://user:password@host:port/database`; `postgresql+asyncpg://` is understood. Needed to serve."
        ),
        Setting("DB_POOL_SIZE", .integer(1...1_000), default: "20", "Connections that the pool keeps open."),
        Setting(
            "DB_MAX_OVERFLOW", .integer(0...1_000), default: "40",
            "Connections beyond the pool's size, opened under load and closed afterwards."),
        Setting(
            "DB_POOL_TIMEOUT", .seconds(1...600_000), default: "30", "Seconds that a caller waits for a connection."),
        Setting("QUERY_TIMEOUT", .seconds(1...3_600_000), default: "30", "Seconds that one statement may run."),
        Setting(
            "WEIR_SLOW_QUERY_MS", .integer(0...3_600_000), default: "500",
            "Statements that take at least so many milliseconds are logged, without their values; 0 turns this off."),
        Setting(
            "WEIR_SETTLEMENT_WRITERS", .integer(1...64), default: "1",
            "Connections that commit settlements, each with a thread of its own."),
        Setting(
            "WEIR_SETTLEMENT_LINGER_US", .integer(0...100_000), default: "500",
            "The longest that settlements wait for others to share their commit; never more than half a commit's time."),
        Setting(
            "WEIR_SETTLEMENT_QUEUE_LIMIT", .integer(1...10_000_000), default: "20000",
            "Settlements that may wait for a commit; beyond it requests are refused with 503."),
        Setting(
            "WEIR_LEASE_SECONDS", .integer(1...3_600), default: "10",
            "Seconds that a gateway may spend a slice of quota before it must renew it."),
        Setting(
            "WEIR_EXPLAIN_HOURS", .integer(1...87_600), default: "48",
            "Hours that closed leases and refusals are kept to explain requests."),
        Setting(
            "WEIR_RATE_LEASE_MS", .integer(500...60_000), default: "2000",
            "Milliseconds that a gateway may use what it holds of a rate limit without saying so."),
    ]

    private static let redisAndCache: [Setting] = [
        Setting(
            "REDIS_URL", .redisURL, isSecret: true,
            "Redis, as `redis://:password@host:port/0`, or `rediss://` for TLS. Without it routes come from the registry alone."
        ),
        Setting(
            "CACHE_DEFAULT_TTL", .integer(0...31_536_000), default: "300",
            "Seconds that a cached prediction lives where nothing else says so."),
        Setting(
            "CACHE_MAX_TTL", .integer(1...31_536_000), default: "86400",
            "The longest life of a cached prediction in seconds."),
        Setting(
            "CACHE_TTL_SECONDS", .integer(0...31_536_000),
            "Another name for `CACHE_DEFAULT_TTL`; if both are given they must agree."),
        Setting(
            "WEIR_CACHE_BYTES", .integer(0...1_099_511_627_776), default: "67108864",
            "Memory of a process for cached predictions; 0 leaves Redis and the table alone to cache."),
        Setting(
            "WEIR_CACHE_BYTES_PER_MINUTE", .integer(0...1_099_511_627_776), default: "67108864",
            "Bytes that one tenant may write each minute, from one gateway, to each of Redis and the table of predictions."
        ),
        Setting(
            "WEIR_CACHE_TABLE_ROWS", .integer(1...1_000_000_000), default: "100000",
            "Predictions of one tenant that the table keeps; what is beyond is removed each minute."),
        Setting(
            "WEIR_CACHE_REDIS_TIMEOUT_MS", .integer(1...200), default: "20",
            "Milliseconds that a request waits for Redis to say whether an answer is cached; what comes later is a miss."
        ),
    ]

    private static let serving: [Setting] = [
        Setting(
            "WEIR_ROLES", .roles, default: "gateway,admin,jobs,dispatcher",
            "What this process does: any of `gateway`, `admin`, `jobs`, `dispatcher`."),
        Setting("WEIR_HOST", .host, default: "127.0.0.1", "The address of the public listener."),
        Setting("WEIR_PORT", .port, default: "8080", "The port of the public listener; 0 takes any free one."),
        Setting("WEIR_ADMIN_HOST", .host, default: "127.0.0.1", "The address of the admin listener."),
        Setting("WEIR_ADMIN_PORT", .port, default: "8081", "The port of the admin listener; 0 takes any free one."),
        Setting(
            "WEIR_ADMIN_MAX_BODY_BYTES", .integer(1_024...1_073_741_824), default: "262144",
            "The largest request body of the admin listener; more is answered with 413 before it is read."),
        Setting(
            "WEIR_ADMIN_HEAD_TIMEOUT_MS", .integer(1...3_600_000), default: "10000",
            "Milliseconds in which the head of a request to the admin listener must arrive."),
        Setting(
            "WEIR_ADMIN_BODY_TIMEOUT_MS", .integer(1...3_600_000), default: "30000",
            "Milliseconds for the next bytes of the body of a request to the admin listener; all of it has ten times that."
        ),
        Setting(
            "WEIR_ADMIN_IDLE_TIMEOUT_MS", .integer(1...3_600_000), default: "75000",
            "Milliseconds after which an idle connection to the admin listener is closed."),
        Setting(
            "WEIR_KEY_PEPPER", .secret(minimumBytes: 32), isSecret: true,
            "The secret under which API keys are hashed, at least 32 bytes. Needed to serve; the same on every gateway, and lost keys follow a lost pepper."
        ),
        Setting(
            "INFERENCE_TIMEOUT_SECONDS", .seconds(1...3_600_000), default: "30",
            "Seconds that a worker may take for one request."),
        Setting(
            "WEIR_EVENT_LOOPS", .integer(0...1_024), default: "0",
            "Threads that serve connections; 0 means one for each core."),
        Setting(
            "WEIR_MAX_BODY_BYTES", .integer(1_024...1_073_741_824), default: "1048576",
            "The largest request body of the public listener; more is answered with 413 before it is read."),
        Setting(
            "WEIR_HEAD_TIMEOUT_MS", .integer(1...3_600_000), default: "10000",
            "Milliseconds in which the head of a request to the public listener must arrive."),
        Setting(
            "WEIR_BODY_TIMEOUT_MS", .integer(1...3_600_000), default: "30000",
            "Milliseconds for the next bytes of the body of a request to the public listener; all of it has ten times that."
        ),
        Setting(
            "WEIR_STREAM_HEARTBEAT_MS", .integer(1...3_600_000), default: "15000",
            "Milliseconds without an event after which a stream's caller is sent a comment."),
        Setting(
            "WEIR_STREAM_STALL_MS", .integer(1...3_600_000), default: "30000",
            "Milliseconds after which the caller of a stream who takes nothing has left."),
        Setting(
            "WEIR_IDLE_TIMEOUT_MS", .integer(1...3_600_000), default: "75000",
            "Milliseconds after which an idle connection to the public listener is closed."),
        Setting(
            "WEIR_WORKER_NETWORKS", .networks,
            default: "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
            "Networks in which workers may be; a route to any other address is not used."),
    ]

    private static let invoices: [Setting] = [
        Setting(
            "WEIR_INVOICE_GRACE", .integer(0...2_592_000), default: "3600",
            "Seconds after a period's end in which usage of it may still come; its invoice is not final before."),
        Setting(
            "WEIR_INVOICE_DUE_DAYS", .integer(0...365), default: "14", "Days that a customer has to pay an invoice."),
        Setting(
            "WEIR_INVOICE_RUN", .boolean, default: "false",
            "Whether the process with the role `jobs` issues every tenant's invoice when a month and the grace are over."
        ),
        Setting(
            "WEIR_PDF_COMMAND", .path, default: "weasyprint",
            "The program that makes PDFs of invoices, called as WeasyPrint is; where it is not there, the HTML is."),
    ]

    private static let webhooks: [Setting] = [
        Setting(
            "WEIR_WEBHOOK_ALLOW_HTTP", .boolean, default: "false",
            "Whether webhooks may be sent without TLS, to `http://` addresses."),
        Setting(
            "WEIR_WEBHOOK_NETWORKS", .networks,
            "Networks besides the public internet to which webhooks may be sent, as in `10.1.0.0/16`."),
        Setting(
            "WEIR_WEBHOOK_LIMIT", .integer(0...1_000), default: "10", "Webhooks that one tenant may have."),
        Setting(
            "WEIR_WEBHOOK_TIMEOUT_MS", .integer(100...30_000), default: "10000",
            "Milliseconds that one attempt to send a webhook may take, from the look-up of its host to its answer."),
        Setting(
            "WEIR_WEBHOOK_RETRY_MS", .integer(100...3_600_000), default: "5000",
            "Milliseconds before a webhook that failed is sent again; each further pause is four times the one before, up to four hours."
        ),
        Setting(
            "WEIR_WEBHOOK_RETRY_SECONDS", .integer(1...2_592_000), default: "86400",
            "Seconds after which a delivery that never succeeded is given up."),
        Setting(
            "WEIR_WEBHOOK_DISABLE_SECONDS", .integer(1...31_536_000), default: "259200",
            "Seconds after which a webhook that took nothing is disabled."),
        Setting(
            "WEIR_WEBHOOK_KEEP_HOURS", .integer(1...8_760), default: "72",
            "Hours that finished deliveries are shown and can be asked for anew."),
    ]

    private static let exports: [Setting] = [
        Setting(
            "WEIR_EXPORT_STREAMS", .integer(1...64), default: "2",
            "Streams of usage that one process serves at once to customers, one of each, and as many again to operators."
        ),
        Setting(
            "WEIR_EXPORT_SECONDS", .integer(1...86_400), default: "3600",
            "Seconds that one stream of usage may take, and one part of an export."),
        Setting(
            "WEIR_EXPORT_PART_ROWS", .integer(1...10_000_000), default: "100000",
            "Rows of one part of an export."),
        Setting(
            "WEIR_EXPORT_KEEP_HOURS", .integer(1...8_760), default: "72",
            "Hours that the parts of an export are kept; its manifest stays."),
        Setting(
            "WEIR_EXPORT_LEASE_SECONDS", .integer(1...3_600), default: "60",
            "Seconds after which another process takes over an export whose process has died; renewed meanwhile."),
    ]

    private static let stripe: [Setting] = [
        Setting(
            "WEIR_STRIPE_KEY", .secret(minimumBytes: 8), isSecret: true,
            "The key with which usage is sent to Stripe. Without it nothing is sent."),
        Setting("WEIR_STRIPE_URL", .httpURL, default: "https://api.stripe.com", "Where Stripe's API is."),
        Setting(
            "WEIR_STRIPE_REQUESTS", .word, default: "weir_requests", "The name of the meter events that count requests."
        ),
        Setting(
            "WEIR_STRIPE_INPUT_TOKENS", .word, default: "weir_input_tokens",
            "The name of the meter events that count input tokens, those from a worker's cache left out."),
        Setting(
            "WEIR_STRIPE_CACHED_INPUT_TOKENS", .word, default: "weir_cached_input_tokens",
            "The name of the meter events that count input tokens from a worker's cache."),
        Setting(
            "WEIR_STRIPE_OUTPUT_TOKENS", .word, default: "weir_output_tokens",
            "The name of the meter events that count output tokens."),
        Setting(
            "WEIR_STRIPE_RETRY_MS", .integer(10...900_000), default: "2000",
            "The ceiling of the random pause after a meter event's first failed attempt, in milliseconds; it doubles each time, to fifteen minutes."
        ),
    ]

    private static let batches: [Setting] = [
        Setting(
            "WEIR_FILE_MAX_BYTES", .integer(1_024...10_737_418_240), default: "104857600",
            "The largest file of requests that can be uploaded."),
        Setting(
            "WEIR_FILE_TENANT_BYTES", .integer(1_024...1_099_511_627_776), default: "1073741824",
            "Bytes that the files of one tenant may have together."),
        Setting(
            "WEIR_BATCH_LIMIT", .integer(1...10_000), default: "50",
            "Batches of one tenant that may be under way at once."),
    ]

    private static let jobs: [Setting] = [
        Setting(
            "WEIR_JOB_CONCURRENCY", .integer(1...10_000), default: "32",
            "Asynchronous jobs that one process with the role `dispatcher` runs at once."),
        Setting(
            "WEIR_JOB_LEASE_SECONDS", .integer(1...3_600), default: "10",
            "Seconds after which the jobs of a process that has died are run by others; renewed while they run."),
        Setting(
            "WEIR_JOBS_PER_TENANT", .integer(1...100_000_000), default: "100000",
            "Jobs that one tenant may have queued; more are refused with 429."),
        Setting(
            "WEIR_JOB_BACKOFF_MS", .integer(1...300_000), default: "1000",
            "The ceiling of the random pause after a job's first failed attempt, in milliseconds; it doubles each time, to five minutes."
        ),
    ]

    private static let operation: [Setting] = [
        Setting(
            "WEIR_LOG_LEVEL", .logLevel, default: "info",
            "The least level that is logged: trace, debug, info, notice, warning, error or critical."),
        Setting("ENABLE_METRICS", .boolean, default: "true", "Whether the admin listener answers `/metrics`."),
        Setting(
            "WEIR_GRACE_SECONDS", .integer(0...3_600), default: "30",
            "Seconds that requests in flight get to finish when the process is told to stop."),
        Setting(
            "WEIR_REPLICA_CONCURRENCY", .integer(1...100_000), default: "1",
            "Requests that one replica of a model serves at once, for the figure of desired replicas."),
        Setting(
            "WEIR_PRICE_CHANGE_FACTOR", .integer(1...1_000_000), default: "3",
            "By how much a new version of a tier may move a price, fee or included amount before its publication has to name a replay."
        ),
        Setting(
            "WEIR_REPLICA_TARGET_PERCENT", .integer(1...100), default: "70",
            "How much of a replica is to be used, for the figure of desired replicas."),
        Setting(
            "WEIR_REPLICA_MIN", .integer(0...100_000), default: "1",
            "The least figure of desired replicas; 0 lets a model without requests have none."),
        Setting(
            "WEIR_REPLICA_MAX", .integer(0...100_000), default: "100", "The greatest figure of desired replicas."),
        Setting(
            "WEIR_CONFIG", .path, "A file of `NAME=value` lines; the environment and flags take precedence over it."),
    ]

    private static let client: [Setting] = [
        Setting(
            "WEIR_ADMIN_URL", .httpURL, default: "http://127.0.0.1:8081", "Where the command line finds the admin API."),
        Setting(
            "WEIR_ADMIN_KEY", .adminKey, isSecret: true,
            "The admin key with which the command line speaks to the admin API."),
    ]
}
