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
                #expect(try await jobs.store.recover(limit: 10) == JobRecovery(returned: 0, dead: 0))
                try await jobs.harness.run(
                    "UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 ms' WHERE state = 'processing'")
                let isLast = try await jobs.harness.ask("SELECT attempt = attempt_limit FROM jobs") == ["true"]
                #expect(
                    try await jobs.other.recover(limit: 10)
                        == JobRecovery(returned: isLast ? 0 : 1, dead: isLast ? 1 : 0))
            }
            #expect(try await jobs.states() == ["failed|failed|1"])
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
            #expect(try await jobs.store.recover(limit: 10) == JobRecovery(returned: 1, dead: 0))
        }
    }
}
