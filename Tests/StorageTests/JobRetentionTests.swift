import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("what retention means for jobs and files of batches")
struct JobRetentionTests {
    private static let removal = "SELECT remove_expired_jobs(100)"

    /// Runs a job so that it is dead afterwards.
    private func bury(_ jobs: JobsUnderTest, tenant: TenantID = Seed.tenantA, batch: BatchID? = nil) async throws
        -> RequestID
    {
        let id = try await jobs.submit(tenant: tenant, payload: #"{"secret":1}"#, batch: batch)[0]
        let claimed = try #require(try await jobs.claim().first { $0.attempt.jobID == id })
        let held = try await jobs.store.giveBack([
            JobReturn(attempt: claimed.attempt, disposition: .bury, code: .badUpstream, detail: "")
        ])
        #expect(held.count == 1)
        return id
    }

    private func retry(_ id: RequestID, _ jobs: JobsUnderTest) async throws -> [String] {
        try await jobs.harness.ask("SELECT retry_job('\(id)')", as: "weir_admin")
    }

    private func change(_ retention: String, _ jobs: JobsUnderTest) async throws {
        try await jobs.harness.run("UPDATE tenants SET retention = '\(retention)' WHERE tenant_id = '\(Seed.tenantA)'")
    }

    /// Erases until nothing is due.
    private func erase(_ jobs: JobsUnderTest, limit: Int = 10) async throws {
        for _ in 0..<1_000 where try await jobs.harness.ask("SELECT erase_kept(\(limit))", as: "weir_jobs") == ["0"] {
            return
        }
        Issue.record("there is always something to erase")
    }

    @Test(
        "a dead job can run again for a time that follows from the policy, and then nothing of its payload is left",
        arguments: [("full", "604800|604800"), ("hashed", "86400|86400"), ("none", "3600|86400")])
    func deadTimes(policy: String, seconds: String) async throws {
        try await JobsUnderTest.with { jobs in
            try await change(policy, jobs)
            let id = try await bury(jobs)
            #expect(
                try await jobs.harness.ask(
                    "SELECT round(extract(epoch FROM dead_until - ended_at)), round(extract(epoch FROM expires_at - ended_at)) FROM jobs"
                ) == [seconds])
            #expect(try await retry(id, jobs) == ["retried"])
            #expect(
                try await jobs.harness.ask("SELECT dead_until IS NULL, payload IS NOT NULL FROM jobs") == ["true|true"])
            let again = try await jobs.claim()
            _ = try await jobs.store.giveBack([
                JobReturn(attempt: again[0].attempt, disposition: .bury, code: .badUpstream, detail: "")
            ])
            try await jobs.harness.run("UPDATE jobs SET dead_until = clock_timestamp()")
            #expect(try await jobs.harness.ask(Self.removal, as: "weir_jobs") == ["1"])
            // It is still told what became of it.
            #expect(
                try await jobs.harness.ask("SELECT state, is_dead, payload IS NULL FROM jobs") == ["failed|false|true"])
            #expect(try await retry(id, jobs) == ["unknown"])
            #expect(try await jobs.harness.ask(Self.removal, as: "weir_jobs") == ["0"])
        }
    }

    @Test("the lease of the last attempt that runs out makes it dead for the same time")
    func deadByLease() async throws {
        try await JobsUnderTest.with { jobs in
            try await change("none", jobs)
            try await jobs.submit()
            try await jobs.harness.run("UPDATE jobs SET attempt_limit = 1")
            _ = try await jobs.claim()
            try await jobs.harness.run("UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 ms'")
            #expect(try await jobs.recover().dead == 1)
            #expect(
                try await jobs.harness.ask("SELECT is_dead, round(extract(epoch FROM dead_until - ended_at)) FROM jobs")
                    == ["true|3600"])
        }
    }

    @Test("whoever deletes a dead job of his erases its payload, and nobody else's")
    func deletion() async throws {
        try await JobsUnderTest.with { jobs in
            let id = try await bury(jobs)
            guard case .unknown = try await jobs.records.cancel(id, tenantID: Seed.tenantB) else {
                Issue.record("another tenant's job")
                return
            }
            let payload = "SELECT payload IS NULL, is_dead, state FROM jobs"
            #expect(try await jobs.harness.ask(payload) == ["false|true|failed"])
            guard case .erased = try await jobs.records.cancel(id, tenantID: Seed.tenantA) else {
                Issue.record("not erased")
                return
            }
            #expect(try await jobs.harness.ask(payload) == ["true|false|failed"])
            #expect(try await retry(id, jobs) == ["unknown"])
            guard case .ended(.failed) = try await jobs.records.cancel(id, tenantID: Seed.tenantA) else {
                Issue.record("it is an ordinary failed job now")
                return
            }
        }
    }

    @Test("a stricter policy erases what ended jobs left, also lines of batches once they are collected")
    func stricterPolicy() async throws {
        try await JobsUnderTest.with { jobs in
            let batch = BatchID(high: 7, low: 7)
            let dead = try await bury(jobs)
            let lines = try await jobs.submit(2, batch: batch)
            let single = try await jobs.submit()[0]
            #expect(try await jobs.complete(try await jobs.claim()).isEmpty)
            try await jobs.harness.run("UPDATE batches SET collected_to = '\(lines[0])'")
            try await change("hashed", jobs)
            try await erase(jobs)
            let left =
                "SELECT count(*) FROM jobs WHERE job_id = '%' AND (payload IS NOT NULL OR octet_length(answer) > 0)"
            for (id, isLeft) in [(dead, "0"), (lines[0], "0"), (lines[1], "1"), (single, "0")] {
                #expect(try await jobs.harness.ask(left.replacing("%", with: "\(id)")) == [isLeft], "\(id)")
            }
            #expect(try await retry(dead, jobs) == ["unknown"])
            // A line's row stays for its batch, and nobody is given an empty answer.
            guard case .gone = try await jobs.records.job(lines[0], tenantID: Seed.tenantA),
                case .job(let row) = try await jobs.records.job(lines[1], tenantID: Seed.tenantA)
            else {
                Issue.record("lines")
                return
            }
            #expect(row.answer == Array(#"{"n":1}"#.utf8))
            try await jobs.harness.run(
                "UPDATE batches SET state = 'completed'; UPDATE retention_erasures SET due_at = now()")
            try await erase(jobs)
            #expect(try await jobs.harness.ask(left.replacing("%", with: "\(lines[1])")) == ["0"])
        }
    }

    @Test("the second look finds answers that were under way, and prompts of jobs that were submitted nine days before")
    func secondLook() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit()
            let claimed = try await jobs.claim()
            try await jobs.harness.run(
                """
                INSERT INTO requests (request_id, tenant_id, key_id, model, status, created_at, completed_at, is_job, prompt)
                SELECT (left(uuid_lower_bound(t)::text, 14) || '7000-8000-000000000001')::uuid, '\(Seed.tenantA)', '\(Seed.keyA)', 'iris',
                    'processing', t, NULL, true, NULL
                FROM unnest(ARRAY[now() - interval '212 hours', now() - interval '220 hours']) AS t
                """)
            try await change("hashed", jobs)
            try await erase(jobs)
            #expect(try await jobs.harness.ask("SELECT pass FROM retention_erasures") == ["2"])
            // What had begun before the change becomes visible after the first pass.
            #expect(try await jobs.complete(claimed).isEmpty)
            try await jobs.harness.run(
                """
                UPDATE jobs SET ended_at = (SELECT asked_at FROM retention_erasures) - interval '1 ms';
                UPDATE requests SET status = 'completed', completed_at = now(), prompt = 'late' WHERE created_at < now() - interval '8 days'
                """)
            let answers = "SELECT octet_length(answer) FROM jobs"
            #expect(try await jobs.harness.ask(answers) == ["7"])
            #expect(try await jobs.harness.ask("SELECT erase_kept(10)", as: "weir_jobs") == ["0"], "not due yet")
            try await jobs.harness.run("UPDATE retention_erasures SET due_at = now()")
            try await erase(jobs)
            #expect(try await jobs.harness.ask(answers) == ["0"])
            // 212 hours are less than nine days, 220 are more: no job is as old.
            #expect(
                try await jobs.harness.ask(
                    "SELECT coalesce(prompt, '-'), prompt_sha256 IS NOT NULL FROM requests WHERE created_at < now() - interval '8 days' ORDER BY created_at"
                ) == ["late|false", "-|true"])
            #expect(try await jobs.harness.ask("SELECT finished_at IS NOT NULL FROM retention_erasures") == ["true"])
        }
    }

    @Test("a job's result lives as long as its tenant says, else as its tier does")
    func timeToLive() async throws {
        try await JobsUnderTest.with { jobs in
            let life = "SELECT round(extract(epoch FROM expires_at - ended_at)) FROM jobs ORDER BY job_id DESC LIMIT 1"
            try await jobs.harness.run(
                "UPDATE tenants SET result_ttl_seconds = 120 WHERE tenant_id = '\(Seed.tenantA)'")
            try await jobs.submit()
            #expect(try await jobs.complete(try await jobs.claim()).isEmpty)
            #expect(try await jobs.harness.ask(life) == ["120"])
            try await jobs.harness.run(
                """
                UPDATE tenants SET result_ttl_seconds = NULL WHERE tenant_id = '\(Seed.tenantA)';
                UPDATE tier_versions SET result_ttl_seconds = 600 WHERE tier_version_id = '\(Seed.draftTier)'
                """)
            for (tier, seconds) in [("'\(Seed.draftTier)'", "600"), ("'\(Seed.tier)'", "86400"), ("NULL", "86400")] {
                let question = "SELECT job_result_ttl('\(Seed.tenantA)', \(tier))"
                #expect(try await jobs.harness.ask(question, as: "weir_writer") == [seconds], "\(tier)")
            }
        }
    }
}
