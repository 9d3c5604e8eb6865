public import Domain
public import Logging
internal import Metrics

/// Sends usage to Stripe: writes down what the hours that are over hold, and sends that until Stripe has it. Any number of processes may do so on one
/// database.
///
/// A process that dies in the middle has told nobody what became of its attempt: it is sent again under the same identifier, of which Stripe
/// takes one.
public enum StripeSender {
    public struct Configuration: Sendable {
        /// After which an attempt is taken for lost. Longer than the transport takes.
        public var leaseMilliseconds: Int64 = 60_000
        /// The ceiling of the random pause after the first failed attempt; it doubles each time.
        public var retryMilliseconds: Int64 = 2_000
        public var pauseMilliseconds: Int64 = 1_000
        public init() {}
    }

    private static let longestPauseMilliseconds: Int64 = 900_000
    private static let longestAskedMilliseconds: Int64 = 3_600_000
    private static let claimLimit = 16

    public static func jobs(
        _ outbox: any StripeOutbox, transport: any StripeTransport, configuration: Configuration, logger: Logger
    ) -> [Recurring] {
        let planned = Counter(label: "weir_stripe_planned_total")
        return [
            Recurring("stripe_plan", everyMilliseconds: configuration.pauseMilliseconds, logger: logger) {
                planned.increment(by: Int64(try await outbox.plan(limit: 1_000)))
            },
            Recurring("stripe_send", everyMilliseconds: configuration.pauseMilliseconds, logger: logger) {
                while !Task.isCancelled {
                    let events = try await outbox.claim(
                        limit: claimLimit, leaseMilliseconds: configuration.leaseMilliseconds)
                    if events.isEmpty { return }
                    await withTaskGroup(of: Void.self) { group in
                        for event in events {
                            group.addTask { await send(event, outbox, transport, configuration, logger) }
                        }
                    }
                }
            },
        ]
    }

    private static func send(
        _ event: StripeEvent, _ outbox: any StripeOutbox, _ transport: any StripeTransport,
        _ configuration: Configuration, _ logger: Logger
    ) async {
        let reply = await transport.send(event)
        Counter(label: "weir_stripe_attempts_total", dimensions: [("outcome", reply.label)]).increment()
        if case .refused(let status, let reason) = reply {
            logger.error(
                "Stripe does not take a meter event; it waits for an operator",
                metadata: ["identifier": "\(event.identifier)", "status": "\(status)", "cause": "\(reason)"])
        }
        do throws(StoreUnavailable) {
            try await outbox.finish(
                event, reply,
                pauseMilliseconds: pause(
                    after: event.attempt, reply, configuration, jitter: .random(in: 0...(.max))))
        } catch {
            // Its lease ends, and it is sent again.
            logger.warning(
                "what became of a meter event could not be written",
                metadata: ["identifier": "\(event.identifier)", "cause": "\(error.cause)"])
        }
    }

    /// Between half the ceiling and the ceiling, and not before Stripe says, up to an hour.
    static func pause(
        after attempt: Int32, _ reply: StripeReply, _ configuration: Configuration, jitter: UInt64
    ) -> Int64 {
        guard case .failed(_, _, let asked?) = reply else {
            return pause(after: attempt, configuration, jitter: jitter)
        }
        return max(pause(after: attempt, configuration, jitter: jitter), min(asked, longestAskedMilliseconds))
    }

    static func pause(after attempt: Int32, _ configuration: Configuration, jitter: UInt64) -> Int64 {
        let doublings = min(max(attempt - 1, 0), 20)
        let ceiling = min(configuration.retryMilliseconds << Int64(doublings), longestPauseMilliseconds)
        return ceiling / 2 + Int64(jitter % UInt64(max(ceiling / 2, 1)))
    }
}

extension StripeReply {
    /// For the metric.
    fileprivate var label: String {
        switch self {
        case .accepted: "delivered"
        case .refused: "parked"
        case .failed: "again"
        }
    }
}
