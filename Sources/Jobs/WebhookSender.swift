public import Domain
public import Logging
internal import Metrics
public import ServiceLifecycle
internal import Synchronization

/// Takes deliveries that are due and sends them, a bounded number at once, for as long as the process runs. Any number of processes may do so
/// on one database.
///
/// A process that dies in the middle has told nobody what became of its attempts: when their leases end they are sent again, under the same
/// event. So every event arrives at least once, and once where nothing fails. A stop takes no more and waits for what is under way, which the
/// transport's deadline bounds.
public struct WebhookSender: Service {
    public struct Configuration: Sendable {
        public var policy = WebhookRetryPolicy()
        /// Attempts under way at once, of this process.
        public var slots = 256
        /// Attempts under way at once at one webhook, on all processes together.
        public var perWebhook = 8
        /// Attempts under way at once at all webhooks of one tenant, on all processes together: an eighth of the places of one, so that slow
        /// receivers of a few tenants do not take all.
        public var perTenant = 32
        /// After which an attempt is taken for lost. Longer than the transport takes, by enough for a slow database.
        public var leaseMilliseconds: Int64 = 60_000
        /// A webhook that has taken nothing for so long is disabled.
        public var disableAfterMilliseconds: Int64 = 259_200_000
        /// Between two looks at the database where nothing is due.
        public var pauseMilliseconds: Int64 = 250
        public init() {}
    }

    private let outbox: any WebhookOutbox
    private let transport: any WebhookTransport
    private let configuration: Configuration
    private let time: any TimeSource
    private let logger: Logger
    private let alarms = Alarms()

    public init(
        outbox: any WebhookOutbox, transport: any WebhookTransport, configuration: Configuration, time: any TimeSource,
        logger: Logger
    ) {
        self.outbox = outbox
        self.transport = transport
        self.configuration = configuration
        self.time = time
        self.logger = logger
    }

    /// When each alarm was logged last.
    private final class Alarms: Sendable {
        private let loggedAtNanoseconds = Mutex<[WebhookFailure: UInt64]>([:])

        func isDue(_ failure: WebhookFailure, at now: UInt64) -> Bool {
            loggedAtNanoseconds.withLock { logged in
                if let last = logged[failure], now < last &+ 60_000_000_000 { return false }
                logged[failure] = now
                return true
            }
        }
    }

    /// How many attempts are under way, and a wake-up that is never waited for twice.
    private final class Slots: Sendable {
        private let underWay = Mutex(0)
        let changes: AsyncStream<Void>
        private let changed: AsyncStream<Void>.Continuation

        init() {
            (changes, changed) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        }

        var count: Int { underWay.withLock { $0 } }

        func take(_ number: Int) { underWay.withLock { $0 += number } }

        func free() {
            underWay.withLock { $0 -= 1 }
            wake()
        }

        func wake() { changed.yield() }
        func end() { changed.finish() }
    }

    public func run() async throws {
        let slots = Slots()
        await withGracefulShutdownHandler {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await tick(slots) }
                group.addTask { await send(slots) }
                // Whichever ends first was told to stop; the ticking has nothing to finish.
                await group.next()
                slots.end()
                group.cancelAll()
            }
        } onGracefulShutdown: {
            slots.end()
        }
    }

    private func tick(_ slots: Slots) async {
        while !Task.isCancelled {
            slots.wake()
            try? await Task.sleep(nanoseconds: UInt64(configuration.pauseMilliseconds) * 1_000_000)
        }
    }

    /// The attempts are not the children of a task that a stop cancels: what was sent has to be written down.
    private func send(_ slots: Slots) async {
        await withDiscardingTaskGroup { group in
            for await _ in slots.changes {
                let attempts = await claim(free: configuration.slots - slots.count)
                slots.take(attempts.count)
                Gauge(label: "weir_webhook_attempts_under_way").record(slots.count)
                for attempt in attempts {
                    group.addTask {
                        await deliver(attempt)
                        slots.free()
                    }
                }
            }
        }
    }

    private func claim(free: Int) async -> [WebhookAttempt] {
        guard free > 0 else { return [] }
        do throws(StoreUnavailable) {
            return try await outbox.claim(
                limit: min(free, 64), perWebhook: configuration.perWebhook, perTenant: configuration.perTenant,
                leaseMilliseconds: configuration.leaseMilliseconds)
        } catch {
            Counter(label: "weir_job_failures_total", dimensions: [("job", "webhooks")]).increment()
            logger.warning("due webhooks could not be read", metadata: ["cause": "\(error.cause)"])
            return []
        }
    }

    private func deliver(_ attempt: WebhookAttempt) async {
        let start = time.monotonicNanoseconds
        let reply = await self.reply(to: attempt)
        let took = Int32(clamping: (time.monotonicNanoseconds &- start) / 1_000_000)
        var random = SystemRandomNumberGenerator()
        let outcome = WebhookOutcome(
            reply, tries: attempt.tries, ageMilliseconds: attempt.ageMilliseconds, policy: configuration.policy,
            using: &random)
        Counter(label: "weir_webhook_attempts_total", dimensions: [("outcome", outcome.label)]).increment()
        if case .failed(let failure) = reply, failure.isOurs { raiseAlarm(failure, at: start) }
        let report = WebhookAttemptReport(attempt, reply: reply, outcome: outcome, tookMilliseconds: took)
        do throws(StoreUnavailable) {
            let state = try await outbox.finish(
                report, disableAfterMilliseconds: configuration.disableAfterMilliseconds)
            if state == .disabled {
                logger.notice(
                    "a webhook is disabled",
                    metadata: ["webhook_id": "\(attempt.webhookID)", "tenant_id": "\(attempt.tenantID)"])
            }
        } catch {
            // Its lease ends, and it is sent again.
            logger.warning(
                "what became of a webhook could not be written",
                metadata: ["delivery_id": "\(attempt.deliveryID)", "cause": "\(error.cause)"])
        }
    }

    /// Counts what is our fault, and says so once a minute: with a wrong pepper it is every attempt.
    private func raiseAlarm(_ failure: WebhookFailure, at now: UInt64) {
        Counter(label: "weir_webhook_own_failures_total", dimensions: [("reason", failure.rawValue)]).increment()
        guard alarms.isDue(failure, at: now) else { return }
        switch failure {
        case .secretUnreadable:
            logger.error(
                "secrets of webhooks cannot be read, and nothing is sent to them: WEIR_KEY_PEPPER is another one than when they were made"
            )
        default:
            logger.error("webhooks are not sent: this process has no thread, address or descriptor left for them")
        }
    }

    private func reply(to attempt: WebhookAttempt) async -> WebhookReply {
        // What was accepted under other rules is judged by those of now.
        guard let url = try? WebhookURL(attempt.url) else { return .failed(.forbiddenTarget) }
        guard
            let fields = WebhookSignature.fields(
                eventID: attempt.eventID, at: time.now, body: attempt.body, secrets: attempt.secrets)
        else { return .failed(.secretUnreadable) }
        return await transport.send(WebhookMessage(url: url, fields: fields, body: attempt.body))
    }
}

extension WebhookOutcome {
    /// For the metric.
    fileprivate var label: String {
        switch self {
        case .delivered: "delivered"
        case .waiting: "again"
        case .postponed: "postponed"
        case .failed: "given_up"
        case .gone: "gone"
        }
    }
}

/// Keeps what is recorded of webhooks bounded.
public enum WebhookUpkeep {
    /// Deliveries that wait for one webhook; beyond it the oldest are given up.
    static let waitingLimit = 10_000

    /// - Parameter keepHours: how long finished deliveries are shown.
    public static func jobs(_ outbox: any WebhookOutbox, keepHours: Int, logger: Logger) -> [any Service] {
        let dropped = Counter(label: "weir_webhook_deliveries_dropped_total")
        let removed = Counter(label: "weir_webhook_deliveries_removed_total")
        return [
            Recurring("webhook_bound", everyMilliseconds: 30_000, logger: logger) {
                let count = try await outbox.trim(keep: waitingLimit)
                dropped.increment(by: Int64(count))
                if count > 0 {
                    logger.warning(
                        "deliveries were given up, because too many waited for one webhook",
                        metadata: ["count": "\(count)"])
                }
            },
            Recurring("webhook_deliveries", everyMilliseconds: 60_000, logger: logger) {
                // Bounded, so that a stop does not wait for all of them.
                for _ in 0..<100 where !Task.isCancelled {
                    let count = try await outbox.remove(keepHours: keepHours, limit: 1_000)
                    removed.increment(by: Int64(count))
                    guard count == 1_000 else { return }
                }
            },
        ]
    }
}
