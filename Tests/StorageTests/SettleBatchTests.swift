import Domain
import PostgresDriver
import Storage
import Testing

@Suite("the settlement of a batch")
struct SettleBatchTests {
    @Test("a batch of any size leaves one request and one entry for each row", arguments: [1, 2, 1_000])
    func batchSizes(count: Int) async throws {
        try await StorageHarness.with { harness in
            let batch = (0..<count).map { Seed.settlement(input: Int64($0), cached: 0, output: 1) }
            try await #expect(harness.settle(batch).isEmpty)
            try await #expect(
                harness.ask("SELECT count(*), count(DISTINCT request_id) FROM requests") == ["\(count)|\(count)"])
            let sums = try await harness.ask(
                "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(requests) FROM ledger")
            #expect(sums == ["\(count)|\(count * (count - 1) / 2)|\(count)|\(count)"])
        }
    }

    @Test("what is charged of a request that is not what its outcome says stands in its entry and its row")
    func unusualRequests() async throws {
        try await StorageHarness.with { harness in
            let lease = Seed.request([(Seed.requestQuotaA, 10, 10)])
            _ = try await harness.withLeases { try await $0.acquire(lease) }
            let batch = [
                Seed.settlement(lease: lease.leaseID),
                Seed.settlement(input: 0, cached: 0, lease: lease.leaseID, requests: 0),
                Seed.settlement(outcome: .failed, lease: lease.leaseID, requests: 1), Seed.settlement(outcome: .failed),
            ]
            try await #expect(harness.settle(batch).isEmpty)
            // Sent again, it is there once.
            try await #expect(harness.settle(batch).isEmpty)
            let rows = try await harness.ask(
                """
                SELECT r.status, r.charged_requests, l.requests, l.input_tokens FROM requests r LEFT JOIN ledger l ON l.entry_id = r.request_id
                ORDER BY r.status, r.charged_requests NULLS FIRST
                """)
            #expect(rows == ["completed|null|1|7", "completed|0|0|0", "failed|null|null|null", "failed|1|1|0"])
            // A charged failure is fenced as an answer is; a free one needs no lease.
            try await harness.run("UPDATE quota_leases SET state = 'closed', closed_at = now()")
            let late = Seed.settlement(outcome: .failed, lease: lease.leaseID, requests: 1)
            try await #expect(harness.settle([late]) == [late.requestID])
            try await #expect(harness.ask("SELECT sum(requests) FROM ledger") == ["2"])
        }
    }

    @Test("an answered request is recorded with everything that is known of it")
    func everyColumn() async throws {
        try await StorageHarness.with { harness in
            let lease = Seed.request([(Seed.tokenQuotaA, 10, 100)])
            _ = try await harness.withLeases { try await $0.acquire(lease) }
            let settlement = Seed.settlement(lease: lease.leaseID, prompt: #"{"x":"ü"}"#, result: #"{"y":1}"#)
            _ = try await harness.settle([settlement])
            let id = settlement.requestID
            let request = try await harness.ask(
                """
                SELECT request_id, tenant_id, user_id, key_id, gateway_id, model, model_version, status, http_status, error_code,
                    processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, prompt, prompt_sha256, result_id,
                    (extract(epoch FROM created_at) * 1000000)::bigint FROM requests
                """)
            #expect(
                request == [
                    "\(id)|\(Seed.tenantA)|\(Seed.userA)|\(Seed.keyA)|\(Seed.gateway)|iris|1|completed|200|null|1234|10|7|3|\(Seed.tier)|false|"
                        + #"{"x":"ü"}"# + "|null|\(id)|\(settlement.createdAt.microsecondsSince1970)"
                ])
            let entry = try await harness.ask(
                """
                SELECT entry_id, tenant_id, user_id, key_id, request_id, kind, model, model_version, tier_version_id, lease_id, requests,
                    input_tokens, cached_input_tokens, output_tokens, token_source, (extract(epoch FROM occurred_at) * 1000000)::bigint
                FROM ledger
                """)
            #expect(
                entry == [
                    "\(id)|\(Seed.tenantA)|\(Seed.userA)|\(Seed.keyA)|\(id)|usage|iris|1|\(Seed.tier)|\(lease.leaseID)|1|7|2|3|worker|"
                        + "\(settlement.createdAt.microsecondsSince1970)"
                ])
            let result = try await harness.ask("SELECT result_id, tenant_id, content, token_count FROM results")
            #expect(result == ["\(id)|\(Seed.tenantA)|" + #"{"y":1}"# + "|3"])
        }
    }

    @Test("a failed request leaves its row with the cause and no entry")
    func failedRequest() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([Seed.settlement(outcome: .failed), Seed.settlement()])
            let rows = try await harness.ask("SELECT status, http_status, error_code FROM requests ORDER BY status")
            #expect(rows == ["completed|200|null", "failed|502|worker_failed"])
            try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["1"])
        }
    }

    @Test("what a tenant does not keep is not written: neither, a hash, or all of it")
    func retention() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([
                Seed.settlement(model: "a"),
                Seed.settlement(model: "b", promptDigest: [UInt8](repeating: 0xAB, count: 32)),
                Seed.settlement(model: "c", prompt: "p", result: "r"),
            ])
            let rows = try await harness.ask(
                """
                SELECT r.model, r.prompt, left(encode(r.prompt_sha256, 'hex'), 4), k.content
                FROM requests r LEFT JOIN results k USING (result_id) ORDER BY 1
                """)
            #expect(rows == ["a|null|null|null", "b|null|abab|null", "c|p|null|r"])
            try await #expect(harness.ask("SELECT count(*) FROM results") == ["1"])
        }
    }

    @Test("the same batch twice, and the same row twice in a batch, leave one entry each")
    func repeatedBatch() async throws {
        try await StorageHarness.with { harness in
            let batch = (0..<5).map { _ in Seed.settlement(prompt: "p", result: "r") }
            try await #expect(harness.settle(batch + batch).isEmpty)
            try await #expect(harness.settle(batch).isEmpty)
            try await #expect(
                harness.ask(
                    "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM ledger), (SELECT count(*) FROM results)"
                ) == ["5|5|5"])
        }
    }

    @Test(
        "on a lease that is past its end, closed or unknown nothing is written, and the neighbours are",
        arguments: [
            "UPDATE quota_leases SET expires_at = now() - interval '1 ms'",
            "UPDATE quota_leases SET state = 'closed', closed_at = now()",
            "DELETE FROM quota_lease_slices; DELETE FROM quota_leases",
        ])
    func leaseLost(change: String) async throws {
        try await StorageHarness.with { harness in
            let lease = Seed.request([(Seed.tokenQuotaA, 10, 100)])
            _ = try await harness.withLeases { try await $0.acquire(lease) }
            try await harness.run(change)
            let lost = Seed.settlement(lease: lease.leaseID, prompt: "p", result: "r")
            let free = Seed.settlement()
            try await #expect(harness.settle([lost, free]) == [lost.requestID])
            try await #expect(harness.ask("SELECT request_id FROM requests") == ["\(free.requestID)"])
            try await #expect(harness.ask("SELECT entry_id FROM ledger") == ["\(free.requestID)"])
            try await #expect(harness.ask("SELECT count(*) FROM results") == ["0"])
        }
    }

    @Test("a row that was committed before its lease ended is committed when it is sent again")
    func committedBeforeExpiry() async throws {
        try await StorageHarness.with { harness in
            let lease = Seed.request([(Seed.tokenQuotaA, 10, 100)])
            _ = try await harness.withLeases { try await $0.acquire(lease) }
            let early = Seed.settlement(lease: lease.leaseID)
            try await #expect(harness.settle([early]).isEmpty)
            try await harness.run("UPDATE quota_leases SET expires_at = now() - interval '1 ms'")
            let late = Seed.settlement(lease: lease.leaseID)
            try await #expect(harness.settle([early, late]) == [late.requestID])
            try await #expect(harness.ask("SELECT entry_id FROM ledger") == ["\(early.requestID)"])
        }
    }

    @Test("a failed request spends nothing, so a lost lease does not keep its row from being written")
    func failedOnLostLease() async throws {
        try await StorageHarness.with { harness in
            let failed = Seed.settlement(outcome: .failed, lease: Seed.newLeaseID())
            try await #expect(harness.settle([failed]).isEmpty)
            try await #expect(harness.ask("SELECT status FROM requests") == ["failed"])
        }
    }

    @Test(
        "a count that no request can have is refused by the database",
        arguments: [(-1, 0, 0), (1, 2, 0), (1, -1, 0), (1, 0, -1), (Int64.max, 0, Int64.max)] as [(Int64, Int64, Int64)]
    )
    func impossibleCounts(input: Int64, cached: Int64, output: Int64) async throws {
        try await StorageHarness.with { harness in
            var settlement = Seed.settlement()
            settlement = Settlement(
                requestID: settlement.requestID, tenantID: settlement.tenantID, userID: nil, keyID: settlement.keyID,
                model: "m",
                modelVersion: "", outcome: .completed, httpStatus: 200, errorCode: nil, createdAt: settlement.createdAt,
                completedAt: settlement.completedAt, processingMicroseconds: 0, estimatedTokens: 0,
                usage: Usage(inputTokens: input, cachedInputTokens: cached, outputTokens: output, source: .worker),
                tierVersionID: Seed.tier, leaseID: nil, prompt: nil, promptDigest: nil, result: nil)
            let impossible = settlement
            await #expect(throws: PostgresError.self) { try await harness.settle([impossible]) }
            try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["0"])
            // Whatever is in the ledger, the roll-up can add it up.
            try await #expect(harness.ask("SELECT roll_up_usage()", as: "weir_jobs").count == 1)
        }
    }

    @Test("a settlement that is sent again waits for its first sending, so that it is not refused and written at once")
    func resendWaitsForFirst() async throws {
        try await StorageHarness.with { harness in
            let lease = Seed.request([(Seed.tokenQuotaA, 10, 100)])
            _ = try await harness.withLeases { try await $0.acquire(lease) }
            let settlement = Seed.settlement(lease: lease.leaseID)
            let refused = try await harness.onSession("weir_writer") { first in
                // The first sending has passed the fence and hangs in its commit; then its lease ends.
                try first.begin()
                _ = try SettlementText.write([settlement], gateway: Seed.gateway, on: first)
                let owner = PostgresSession(configuration: try harness.configuration(nil))
                try owner.connect()
                try owner.run(script: "UPDATE quota_leases SET expires_at = now() - interval '1 ms'")
                owner.close()
                let second = try SecondSession(harness.configuration("weir_writer"))
                let waiting = second.start {
                    try SettlementText.writeAgain([settlement], gateway: Seed.gateway, on: $0)
                }
                #expect(!waiting.isFinished(withinMilliseconds: 200))
                try first.commit()
                return try waiting.result()
            }
            #expect(refused.isEmpty)
            try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["1"])
        }
    }
}
