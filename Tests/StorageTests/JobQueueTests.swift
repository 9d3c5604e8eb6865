import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("the queue of jobs")
struct JobQueueTests {
    @Test("a job is claimed once, with what was submitted, and counted before it runs")
    func claim() async throws {
        try await JobsUnderTest.with { jobs in
            let ids = try await jobs.submit(3, payload: #"{"a":"ü"}"#)
            #expect(try await jobs.states() == ["queued|queued|3"])
            let claimed = try await jobs.claim()
            #expect(claimed.map(\.attempt) == ids.map { JobAttempt(jobID: $0, number: 1) })
            let first = try #require(claimed.first)
            #expect(first.payload == Array(#"{"a":"ü"}"#.utf8))
            #expect(first.operation == "predict")
            #expect(first.publicID?.description == "AAAAAAAAAAAA")
            #expect(!first.isLastAttempt)
            #expect(try await jobs.claim().isEmpty)
            #expect(try await jobs.states() == ["processing|processing|3"])
        }
    }

    @Test("claimers at once share the jobs without one twice")
    func concurrentClaims() async throws {
        try await JobsUnderTest.with { jobs in
            let ids = try await jobs.submit(500)
            let claimed = try await withThrowingTaskGroup(of: [RequestID].self) { group in
                for number in 0..<8 {
                    let store = number % 2 == 0 ? jobs.store : jobs.other
                    group.addTask {
                        var mine: [RequestID] = []
                        while true {
                            let part = try await store.claim(limit: 7, after: JobsUnderTest.nobody).jobs
                            // Another may hold what is left at this moment; it claims it then.
                            if part.isEmpty { return mine }
                            mine += part.map(\.attempt.jobID)
                        }
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(claimed.count == 500)
            #expect(Set(claimed) == Set(ids))
        }
    }

    @Test("tenants share each claim, whoever has more, and what one leaves the others get")
    func fairness() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(500, tenant: Seed.tenantA, priority: 9)
            try await jobs.submit(5, tenant: Seed.tenantB, priority: 0)
            let first = try await jobs.claim(8)
            #expect(first.count { $0.tenantID == Seed.tenantB } == 4)
            let second = try await jobs.claim(8)
            #expect(second.count { $0.tenantID == Seed.tenantB } == 1)
            #expect(second.count == 8)
        }
    }

    @Test("with one place at a time the tenants come in turn")
    func turns() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(10, tenant: Seed.tenantA)
            try await jobs.submit(10, tenant: Seed.tenantB)
            var after = JobsUnderTest.nobody
            var tenants: [TenantID] = []
            for _ in 0..<6 {
                let claim = try await jobs.store.claim(limit: 1, after: after)
                after = claim.goOnAfter
                tenants += claim.jobs.map(\.tenantID)
            }
            #expect(tenants == [Seed.tenantA, Seed.tenantB, Seed.tenantA, Seed.tenantB, Seed.tenantA, Seed.tenantB])
        }
    }

    @Test("a hundred tenants whose jobs are all for later keep no one from his turn, wherever the claim begins")
    func tenantsThatWait() async throws {
        try await JobsUnderTest.with { jobs in
            let later = MachineTime().now.advanced(byMilliseconds: 3_600_000)
            for low in UInt64(1)...100 {
                try await jobs.submit(2, tenant: TenantID(high: 0, low: low), runAt: later)
            }
            let ready = try await jobs.submit(2, tenant: Seed.tenantB)
            #expect(try await jobs.records.queuedCount(of: TenantID(high: 0, low: 1), bound: 10) == 2)
            #expect(try await jobs.records.queuedCount(of: Seed.tenantB, bound: 10) == 2)
            #expect(try await jobs.claim(1).map(\.attempt.jobID) == [ready[0]])
            #expect(try await jobs.claim(1, after: TenantID(high: 0, low: 7)).map(\.attempt.jobID) == [ready[1]])
        }
    }

    @Test("a claim that got nothing goes on behind the tenants it looked at")
    func cursorOfAnEmptyClaim() async throws {
        try await JobsUnderTest.with { jobs in
            for low in UInt64(1)...64 { try await jobs.submit(2, tenant: TenantID(high: 0, low: low)) }
            try await jobs.harness.run("UPDATE jobs SET deadline_at = now() - interval '1 s'")
            let ready = try await jobs.submit(tenant: Seed.tenantB)
            let first = try await jobs.store.claim(limit: 64, after: JobsUnderTest.nobody)
            #expect(first.jobs.isEmpty)
            #expect(first.goOnAfter == TenantID(high: 0, low: 64))
            let second = try await jobs.store.claim(limit: 64, after: first.goOnAfter)
            #expect(second.jobs.map(\.attempt.jobID) == ready)
        }
    }

    @Test("a claim walks the ready jobs' index alone, however many wait")
    func costOfAClaim() async throws {
        try await JobsUnderTest.with { jobs in
            let later = MachineTime().now.advanced(byMilliseconds: 3_600_000)
            try await jobs.submit(2_000, tenant: Seed.tenantA, runAt: later)
            try await jobs.submit(tenant: Seed.tenantB)
            try await jobs.harness.run("ANALYZE jobs")
            for settings in ["", "SET enable_sort = off; SET enable_bitmapscan = off;"] {
                try await jobs.harness.run(
                    """
                    SET enable_seqscan = off; \(settings)
                    DO $$ DECLARE line text; plan text := ''; BEGIN
                        FOR line IN EXPLAIN SELECT tenant_id FROM jobs WHERE state = 'queued' AND is_ready
                            AND tenant_id > '00000000-0000-0000-0000-000000000000' ORDER BY tenant_id LIMIT 1
                        LOOP plan := plan || line; END LOOP;
                        IF plan NOT LIKE '%jobs_ready%' OR plan LIKE '%Filter%' THEN RAISE EXCEPTION '%', plan; END IF;
                    END $$
                    """)
            }
        }
    }

    @Test("within a tenant the highest priority comes first, then the oldest")
    func priority() async throws {
        try await JobsUnderTest.with { jobs in
            let low = try await jobs.submit(2, priority: 1)
            let high = try await jobs.submit(2, priority: 9)
            let usual = try await jobs.submit(1)
            #expect(try await jobs.claim().map(\.attempt.jobID) == high + usual + low)
        }
    }

    @Test("a job for later waits for its instant")
    func later() async throws {
        try await JobsUnderTest.with { jobs in
            let later = try await jobs.submit(runAt: MachineTime().now.advanced(byMilliseconds: 3_600_000))
            let past = try await jobs.submit(runAt: MachineTime().now.advanced(byMilliseconds: -3_600_000))
            #expect(try await jobs.claim().map(\.attempt.jobID) == past)
            try await jobs.harness.run("UPDATE jobs SET run_at = now() - interval '1 ms' WHERE state = 'queued'")
            #expect(try await jobs.claim().map(\.attempt.jobID) == later)
        }
    }

    @Test("a job that nobody has ended by its deadline expires and does not run")
    func deadline() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(2)
            try await jobs.harness.run("UPDATE jobs SET deadline_at = now() - interval '1 s'")
            #expect(try await jobs.claim().isEmpty)
            #expect(try await jobs.states() == ["expired|expired|2"])
            #expect(try await jobs.harness.ask("SELECT count(*) FROM ledger") == ["0"])
        }
    }

    @Test("a failed attempt is made again after its pause, in the end it is dead, and an operator gives it five more")
    func retries() async throws {
        try await JobsUnderTest.with { jobs in
            let id = try await jobs.submit()[0]
            for number in Int32(1)...5 {
                let job = try #require(try await jobs.claim().first)
                #expect(job.attempt.number == number)
                #expect(job.isLastAttempt == (number == 5))
                let disposition: JobDisposition = number < 5 ? .retry(afterMilliseconds: 3_600_000) : .bury
                let held = try await jobs.store.giveBack([
                    JobReturn(attempt: job.attempt, disposition: disposition, code: .badUpstream, detail: "d\(number)")
                ])
                #expect(held == [job.attempt])
                #expect(try await jobs.claim().isEmpty)
                try await jobs.harness.run("UPDATE jobs SET run_at = now() WHERE state = 'queued'")
            }
            #expect(try await jobs.states() == ["failed|failed|1"])
            #expect(
                try await jobs.harness.ask(
                    "SELECT j.is_dead, j.error_detail, r.error_code, r.http_status, j.payload IS NOT NULL FROM jobs j JOIN requests r ON r.request_id = j.job_id"
                ) == ["true|d5|bad_upstream|502|true"])
            #expect(try await jobs.harness.ask("SELECT retry_dead_job('\(id)')", as: "weir_admin") == ["true"])
            #expect(try await jobs.harness.ask("SELECT retry_dead_job('\(id)')", as: "weir_admin") == ["false"])
            let again = try #require(try await jobs.claim().first)
            #expect(again.attempt.number == 6)
            #expect(again.attemptLimit == 10)
            #expect(try await jobs.complete([again]).isEmpty)
            #expect(try await jobs.states() == ["completed|completed|1"])
        }
    }

    @Test("what was given back untried does not use attempts up")
    func givenBack() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit()
            for number in Int32(1)...8 {
                let job = try #require(try await jobs.claim().first)
                #expect(job.attempt.number == number)
                #expect(!job.isLastAttempt)
                _ = try await jobs.store.giveBack([
                    JobReturn(
                        attempt: job.attempt, disposition: .giveBack(afterMilliseconds: 0), code: .overloaded,
                        detail: "")
                ])
            }
        }
    }

    @Test("a final failure keeps neither payload nor charge")
    func failure() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit()
            let job = try #require(try await jobs.claim().first)
            _ = try await jobs.store.giveBack([
                JobReturn(attempt: job.attempt, disposition: .fail, code: .quotaExceeded, detail: "")
            ])
            #expect(try await jobs.states() == ["failed|failed|1"])
            #expect(try await jobs.harness.ask("SELECT count(*) FROM jobs WHERE payload IS NULL") == ["1"])
            #expect(try await jobs.harness.ask("SELECT count(*) FROM ledger") == ["0"])
        }
    }

    @Test("a dead owner's jobs are claimed by others after the lease, and after the last attempt they are dead")
    func recovery() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit()
            for _ in 1...5 {
                #expect(try await jobs.claim().count == 1)
                #expect(try await jobs.recover() == JobRecovery(returned: 0, dead: 0))
                try await jobs.harness.run(
                    "UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 ms' WHERE state = 'processing'")
                let isLast = try await jobs.harness.ask("SELECT attempt = attempt_limit FROM jobs") == ["true"]
                #expect(
                    try await jobs.recover() == JobRecovery(returned: isLast ? 0 : 1, dead: isLast ? 1 : 0))
                try await jobs.passPauses()
            }
            #expect(try await jobs.states() == ["failed|failed|1"])
        }
    }

    @Test("what ran in a process that died comes back apart, and further apart each time", arguments: [1, 2, 3, 4])
    func suspects(attempt: Int32) async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(40)
            #expect(try await jobs.claim().count == 40)
            try await jobs.harness.run(
                "UPDATE jobs SET attempt = \(attempt), lease_expires_at = clock_timestamp() - interval '1 ms'")
            #expect(try await jobs.recover(100) == JobRecovery(returned: 40, dead: 0))
            let ceiling = JobBackoff().ceilingMilliseconds(afterSuspectAttempt: attempt)
            let spread = try await jobs.harness.ask(
                """
                SELECT count(*) FILTER (WHERE is_ready), count(DISTINCT run_at) > 30,
                    max(run_at) <= clock_timestamp() + interval '1 ms' * \(ceiling),
                    max(run_at) - min(run_at) >= interval '1 ms' * \(ceiling / 2)
                FROM jobs WHERE state = 'queued'
                """)
            #expect(spread == ["0|true|true|true"])
        }
    }

    @Test("a dead line of a batch is tried again only as long as the batch waits for it")
    func deadLines() async throws {
        try await JobsUnderTest.with { jobs in
            let batch = "00000000-0000-0001-0000-000000000007"
            let ids = try await jobs.submit(2, batch: BatchID(high: 1, low: 7)) + (try await jobs.submit())
            _ = try await jobs.store.giveBack(
                try await jobs.claim().map {
                    JobReturn(attempt: $0.attempt, disposition: .bury, code: .badUpstream, detail: "")
                })
            try await jobs.harness.run(
                """
                INSERT INTO batches (batch_id, tenant_id, key_id, endpoint, input_file_id, state, total, expires_at, collected_to)
                SELECT '\(batch)', tenant_id, key_id, '/v1/embeddings', batch_id, 'in_progress', 2, now() + interval '1 h', job_id
                FROM jobs WHERE job_id = '\(ids[0])'
                ON CONFLICT (batch_id) DO UPDATE SET state = EXCLUDED.state, total = EXCLUDED.total, expires_at = EXCLUDED.expires_at,
                    collected_to = EXCLUDED.collected_to
                """)
            try await jobs.harness.withPool("weir_admin", connections: 1) { pool in
                let admin = AdministrationStore(pool: pool, reports: pool, pepper: [], time: MachineTime())
                func code(_ id: RequestID) async -> FailureCode? {
                    do throws(AdministrationFailure) {
                        try await admin.retryDead(id, by: .system)
                        return nil
                    } catch {
                        guard case .refused(let refusal) = error else { return .internalError }
                        return refusal.code
                    }
                }
                #expect(await code(ids[0]) == .conflict)
                for change in ["state = 'completed'", "state = 'cancelling'", "expires_at = now()"] {
                    try await jobs.harness.run(
                        "UPDATE batches SET state = 'in_progress', expires_at = now() + interval '1 h'; UPDATE batches SET \(change)"
                    )
                    #expect(await code(ids[1]) == .conflict, "\(change)")
                }
                #expect(try await jobs.states() == ["failed|failed|3"])
                try await jobs.harness.run(
                    "UPDATE batches SET state = 'in_progress', expires_at = now() + interval '1 h'")
                #expect(await code(ids[1]) == nil)
                #expect(await code(ids[1]) == .notFound)
                #expect(await code(ids[2]) == nil)
            }
            #expect(try await jobs.claim().map(\.attempt.jobID) == [ids[1], ids[2]])
        }
    }

    @Test("a renewed lease is later, and whose job was taken or cancelled is told so")
    func renewal() async throws {
        try await JobsUnderTest.with { jobs in
            let ids = try await jobs.submit(3)
            let claimed = try await jobs.claim()
            try await jobs.harness.run("UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 s'")
            _ = try await jobs.records.cancel(ids[1], tenantID: Seed.tenantA)
            try await jobs.harness.run("UPDATE jobs SET attempt = 2 WHERE job_id = '\(ids[2])'")
            let lost = try await jobs.store.renew(claimed.map(\.attempt))
            #expect(lost == [claimed[1].attempt, claimed[2].attempt])
            #expect(try await jobs.recover() == JobRecovery(returned: 1, dead: 0))
        }
    }
}
