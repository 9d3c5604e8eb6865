import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("the outbox of webhooks")
struct WebhookOutboxTests {
    private static let pepper = [UInt8](repeating: 7, count: 32)

    private struct Fixture {
        let harness: StorageHarness
        let pool: PostgresPool
        let outbox: WebhookOutboxStore

        /// Webhooks of a tenant, each with the same number of deliveries that are due. Their secrets are sealed under no pepper.
        func add(_ webhooks: Int, of tenant: TenantID, events: Int) async throws {
            try await harness.run(
                """
                INSERT INTO webhooks (webhook_id, tenant_id, url, events, sealed_secret)
                SELECT new_uuid7(), '\(tenant)', 'https://example.com/', '{quota.threshold}', decode('01', 'hex')
                FROM generate_series(1, \(webhooks));
                SELECT raise_webhook_event('\(tenant)', new_uuid7(), 'quota.threshold', now(), '{}'::json) FROM generate_series(1, \(events));
                """)
        }

        func claim(_ limit: Int = 64) async throws -> [WebhookAttempt] {
            try await outbox.claim(limit: limit, perWebhook: 8, perTenant: 32, leaseMilliseconds: 600_000)
        }

        func finish(_ attempt: WebhookAttempt, _ reply: WebhookReply, _ outcome: WebhookOutcome) async throws
            -> Webhook.State?
        {
            try await outbox.finish(
                WebhookAttemptReport(attempt, reply: reply, outcome: outcome, tookMilliseconds: 1),
                disableAfterMilliseconds: 259_200_000)
        }

        func underWay(_ tenant: TenantID) async throws -> [String] {
            try await harness.ask(
                "SELECT count(*) FROM webhook_deliveries WHERE tenant_id = '\(tenant)' AND state = 'sending'")
        }
    }

    private func withOutbox<T: Sendable>(_ body: (Fixture) async throws -> T) async throws -> T {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_jobs", connections: 8) { pool in
                try await body(
                    Fixture(
                        harness: harness, pool: pool, outbox: WebhookOutboxStore(pool: pool, pepper: Self.pepper)))
            }
        }
    }

    @Test(
        "slow receivers of one tenant take no more than its places, on all processes, and leave those of another alone")
    func perTenant() async throws {
        try await withOutbox { fixture in
            try await fixture.add(10, of: Seed.tenantA, events: 12)
            try await fixture.add(1, of: Seed.tenantB, events: 12)
            // As many processes that claim at once, again and again.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask { for _ in 0..<10 { _ = try await fixture.claim() } }
                }
                try await group.waitForAll()
            }
            while try await !fixture.claim().isEmpty {}
            #expect(try await fixture.underWay(Seed.tenantA) == ["32"])
            #expect(try await fixture.underWay(Seed.tenantB) == ["8"])
        }
    }

    @Test("the places of a tenant are divided among its webhooks, and one that is free again is taken again")
    func shares() async throws {
        try await withOutbox { fixture in
            try await fixture.add(10, of: Seed.tenantA, events: 12)
            let taken = try await fixture.claim()
            #expect(taken.count == 32)
            let shares = Dictionary(grouping: taken, by: \.webhookID).mapValues(\.count)
            #expect(shares.count == 10 && shares.values.allSatisfy { (3...4).contains($0) }, "\(shares)")
            #expect(try await fixture.claim().isEmpty)
            #expect(try await fixture.finish(taken[0], .answered(status: 200), .delivered) == .active)
            #expect(try await fixture.claim().count == 1)
            // A tenant without room takes none of the few places that are asked for.
            try await fixture.add(1, of: Seed.tenantB, events: 12)
            #expect(try await fixture.claim(1).map(\.tenantID) == [Seed.tenantB])
        }
    }

    @Test("what was our fault leaves the webhook as it is, is not counted, and comes again after the pause")
    func postponed() async throws {
        try await withOutbox { fixture in
            try await fixture.add(1, of: Seed.tenantA, events: 1)
            // It was about to be disabled.
            try await fixture.harness.run(
                "UPDATE webhooks SET failing_since = now() - interval '30 days', state = 'failing'")
            let attempt = try #require(try await fixture.claim().first)
            #expect(attempt.number == 1 && attempt.tries == 1 && attempt.secrets.isEmpty)
            let postponed = WebhookOutcome.postponed(pauseMilliseconds: 300_000)
            #expect(try await fixture.finish(attempt, .failed(.secretUnreadable), postponed) == .failing)
            #expect(
                try await fixture.harness.ask(
                    """
                    SELECT d.state, d.tries, d.last_error, d.next_attempt_at > now() + interval '4 minutes', d.tried_from > now(),
                        w.state, w.failing_since < now() - interval '29 days', w.disabled_reason IS NULL
                    FROM webhook_deliveries d JOIN webhooks w USING (webhook_id)
                    """) == ["waiting|0|secret_unreadable|true|true|failing|true|true"])
            try await fixture.harness.withPool("weir_customer", connections: 1) { pool in
                let store = WebhookStore(pool: pool, pepper: Self.pepper, time: MachineTime())
                let shown = try await store.deliveries(
                    WebhookDeliveryQuery(
                        webhookID: attempt.webhookID, tenantID: Seed.tenantA, limit: 10, after: nil, state: nil))
                #expect(shown.map(\.attempts) == [0])
            }
            #expect(try await fixture.claim().isEmpty)
            // The number goes on: what the first attempt says once more does not count for the second.
            try await fixture.harness.run("UPDATE webhook_deliveries SET next_attempt_at = now()")
            let second = try #require(try await fixture.claim().first)
            #expect(second.number == 2 && second.tries == 1 && second.ageMilliseconds < 0)
            #expect(try await fixture.finish(attempt, .failed(.secretUnreadable), postponed) == nil)
            #expect(try await fixture.finish(second, .answered(status: 200), .delivered) == .active)
        }
    }

    @Test("a receiver that fails is counted, and disabled in the end")
    func counted() async throws {
        try await withOutbox { fixture in
            try await fixture.add(1, of: Seed.tenantA, events: 1)
            let first = try #require(try await fixture.claim().first)
            let again = WebhookOutcome.waiting(pauseMilliseconds: 1)
            #expect(try await fixture.finish(first, .failed(.timeout), again) == .active)
            try await fixture.harness.run(
                "UPDATE webhooks SET failing_since = now() - interval '30 days'; UPDATE webhook_deliveries SET next_attempt_at = now()"
            )
            let second = try #require(try await fixture.claim().first)
            #expect(second.tries == 2)
            #expect(try await fixture.finish(second, .failed(.timeout), again) == .disabled)
            #expect(
                try await fixture.harness.ask("SELECT state, attempts - uncounted FROM webhook_deliveries") == [
                    "failed|2"
                ])
        }
    }
}
