import Domain
import Jobs
import Logging
import ServiceLifecycle
import Synchronization
import Testing

@Suite("sending webhooks")
struct WebhookSenderTests {
    /// Gives out the attempts of a test once, and keeps what is said of them.
    private final class Outbox: WebhookOutbox {
        private let state: Mutex<(waiting: [WebhookAttempt], reports: [WebhookAttemptReport], bounds: [Int])>
        let finished = Attempts()

        init(_ attempts: [WebhookAttempt]) { state = Mutex((attempts, [], [])) }

        var reports: [WebhookAttemptReport] { state.withLock { $0.reports } }
        var bounds: [Int] { state.withLock { $0.bounds } }

        func claim(
            limit: Int, perWebhook: Int, perTenant: Int, leaseMilliseconds: Int64
        ) async throws(StoreUnavailable) -> [WebhookAttempt] {
            state.withLock { state in
                state.bounds = [perWebhook, perTenant]
                defer { state.waiting.removeAll() }
                return state.waiting
            }
        }

        func finish(
            _ report: WebhookAttemptReport, disableAfterMilliseconds: Int64
        ) async throws(StoreUnavailable) -> Webhook.State? {
            state.withLock { $0.reports.append(report) }
            _ = finished.next()
            return .active
        }

        func trim(keep: Int) async throws(StoreUnavailable) -> Int { 0 }
        func remove(keepHours: Int, limit: Int) async throws(StoreUnavailable) -> Int { 0 }
    }

    private struct Transport: WebhookTransport {
        let reply: WebhookReply
        let sent = Attempts()

        func send(_ message: WebhookMessage) async -> WebhookReply {
            _ = sent.next()
            return reply
        }
    }

    private struct Clock: TimeSource {
        var now: Timestamp { Timestamp(microsecondsSince1970: 1_800_000_000_000_000) }
        var monotonicNanoseconds: UInt64 { 1_000_000_000_000 }
    }

    private static func attempt(_ number: UInt64, secrets: [[UInt8]]) -> WebhookAttempt {
        WebhookAttempt(
            deliveryID: WebhookDeliveryID(high: 1, low: number), webhookID: WebhookID(high: 2, low: 1),
            eventID: WebhookEventID(high: 3, low: number), tenantID: TenantID(high: 4, low: 1), number: 1, tries: 1,
            ageMilliseconds: 0, url: "https://example.com/", secrets: secrets, body: Array("{}".utf8))
    }

    private func send(_ outbox: Outbox, _ transport: Transport, log: CountedLog, until count: Int) async throws {
        let sender = WebhookSender(
            outbox: outbox, transport: transport, configuration: .init(), time: Clock(), logger: log.logger)
        let group = ServiceGroup(configuration: ServiceGroupConfiguration(services: [sender], logger: quietLogger))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await outbox.finished.reach(count)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    @Test("a secret that cannot be read is our fault: nothing is sent, nothing counted, and the operator is told once")
    func unreadable() async throws {
        let outbox = Outbox((1...3).map { Self.attempt($0, secrets: []) })
        let transport = Transport(reply: .answered(status: 200))
        let log = CountedLog()
        try await send(outbox, transport, log: log, until: 3)
        #expect(transport.sent.count == 0)
        #expect(outbox.reports.map(\.outcome) == Array(repeating: .postponed(pauseMilliseconds: 300_000), count: 3))
        #expect(outbox.reports.allSatisfy { $0.reply == .failed(.secretUnreadable) })
        #expect(log.errors == 1)
    }

    @Test("so is a sender without capacity, and a receiver that cannot be reached is not")
    func capacity() async throws {
        for (failure, isOurs) in [(WebhookFailure.noCapacity, true), (.connectFailed, false)] {
            let outbox = Outbox([Self.attempt(1, secrets: [[1, 2, 3]])])
            let transport = Transport(reply: .failed(failure))
            let log = CountedLog()
            try await send(outbox, transport, log: log, until: 1)
            let isPostponed = if case .postponed? = outbox.reports.first?.outcome { true } else { false }
            #expect(isPostponed == isOurs && transport.sent.count == 1)
            #expect(log.errors == (isOurs ? 1 : 0))
            #expect(outbox.bounds == [8, 32])
        }
    }
}
