import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("the settlement of jobs")
struct JobSettlementTests {
    @Test("a completed job has its answer, its request and one entry, also when the batch is sent again")
    func completion() async throws {
        try await JobsUnderTest.with { jobs in
            let id = try await jobs.submit()[0]
            let claimed = try await jobs.claim()
            let plain = Seed.settlement()
            #expect(try await jobs.complete(claimed, others: [plain]).isEmpty)
            #expect(try await jobs.complete(claimed, again: true, others: [plain]).isEmpty)
            #expect(try await jobs.states() == ["completed|completed|1"])
            #expect(try await jobs.harness.ask("SELECT count(*) FROM ledger WHERE entry_id = '\(id)'") == ["1"])
            #expect(try await jobs.harness.ask("SELECT count(*) FROM ledger") == ["2"])
            #expect(
                try await jobs.harness.ask(
                    "SELECT convert_from(answer, 'UTF8'), payload IS NULL, lease_owner IS NULL, round(extract(epoch FROM expires_at - ended_at)) FROM jobs"
                )
                    == [#"{"n":1}|true|true|86400"#])
            #expect(
                try await jobs.harness.ask(
                    "SELECT input_tokens, output_tokens, http_status, is_job, started_at IS NOT NULL FROM requests WHERE request_id = '\(id)'"
                ) == ["7|3|200|true|true"])
            guard case .job(let row) = try await jobs.records.job(id, tenantID: Seed.tenantA) else {
                Issue.record("no job")
                return
            }
            #expect(row.answer == Array(#"{"n":1}"#.utf8))
            #expect(row.state == .completed)
        }
    }

    @Test("an attempt that was outrun completes and charges nothing, whoever comes first")
    func zombie() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit()
            let first = try await jobs.claim()
            try await jobs.harness.run("UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 ms'")
            _ = try await jobs.recover()
            try await jobs.passPauses()
            // Before anybody has claimed it again.
            #expect(try await jobs.complete(first).values.map { $0 } == [.jobLost])
            let second = try await jobs.other.claim(limit: 10, after: JobsUnderTest.nobody).jobs
            #expect(second.map(\.attempt.number) == [2])
            #expect(try await jobs.complete(first).values.map { $0 } == [.jobLost])
            #expect(try await jobs.harness.ask("SELECT count(*) FROM ledger") == ["0"])
            #expect(try await jobs.complete(second, gateway: Seed.otherGateway).isEmpty)
            #expect(try await jobs.complete(first).values.map { $0 } == [.jobLost])
            #expect(try await jobs.harness.ask("SELECT count(*), sum(requests) FROM ledger") == ["1|1"])
            // Nor can it give back what it no longer has.
            let held = try await jobs.store.giveBack([
                JobReturn(attempt: first[0].attempt, disposition: .fail, code: .badUpstream, detail: "")
            ])
            #expect(held.isEmpty)
            #expect(try await jobs.states() == ["completed|completed|1"])
        }
    }

    @Test("of many settlements and a cancellation at once, one takes effect")
    func race() async throws {
        try await JobsUnderTest.with { jobs in
            for _ in 0..<20 {
                let id = try await jobs.submit()[0]
                let claimed = try await jobs.claim()
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    for gateway in [Seed.gateway, Seed.otherGateway] {
                        group.addTask { try await jobs.complete(claimed, gateway: gateway).isEmpty }
                    }
                    group.addTask {
                        if case .cancelled = try await jobs.records.cancel(id, tenantID: Seed.tenantA) { return true }
                        return false
                    }
                    for try await _ in group {}
                }
                let end = try await jobs.harness.ask(
                    "SELECT state, (SELECT count(*) FROM ledger WHERE entry_id = job_id) FROM jobs WHERE job_id = '\(id)'"
                )
                #expect(end == ["completed|1"] || end == ["cancelled|0"], "\(end)")
            }
        }
    }

    @Test("a job on a lost lease of quota stays as it is, and its neighbours are completed")
    func lostLease() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(2)
            let claimed = try await jobs.claim()
            let lost = try await jobs.complete([claimed[0]], lease: Seed.newLeaseID())
            #expect(lost == [claimed[0].attempt.jobID: .leaseLost])
            #expect(try await jobs.complete([claimed[1]]).isEmpty)
            #expect(try await jobs.states() == ["completed|completed|1", "processing|processing|1"])
        }
    }

    @Test("the writer settles jobs beside other requests")
    func writer() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(3)
            let claimed = try await jobs.claim()
            _ = try await jobs.records.cancel(claimed[0].attempt.jobID, tenantID: Seed.tenantA)
            let outcomes = Outcomes()
            try await jobs.harness.withWriter { writer in
                let lane = CountingLane()
                for job in claimed {
                    outcomes.submit(
                        Seed.settlement(
                            id: job.attempt.jobID, job: JobCompletion(attempt: job.attempt, answer: [0x7B, 0x7D])),
                        to: writer, on: lane)
                }
                outcomes.submit(Seed.settlement(), to: writer, on: lane)
                try await eventually("all are told") { outcomes.results.count == 4 }
            }
            #expect(outcomes.count(.committed) == 3)
            #expect(outcomes.results[claimed[0].attempt.jobID] == .jobLost)
            #expect(try await jobs.harness.ask("SELECT count(*) FROM ledger") == ["3"])
        }
    }

    @Test("cancelling: queued, running, twice, finished, another tenant's, unknown, gone")
    func cancelling() async throws {
        try await JobsUnderTest.with { jobs in
            let ids = try await jobs.submit(3)
            let claimed = try await jobs.claim(2)
            _ = try await jobs.complete([claimed[0]])
            func cancel(_ id: RequestID, _ tenant: TenantID = Seed.tenantA) async throws -> String {
                switch try await jobs.records.cancel(id, tenantID: tenant) {
                case .cancelled: "cancelled"
                case .ended(let state): "ended \(state)"
                case .erased: "erased"
                case .gone: "gone"
                case .unknown: "unknown"
                }
            }
            #expect(try await cancel(ids[2], Seed.tenantB) == "unknown")
            #expect(try await cancel(ids[2]) == "cancelled")
            #expect(try await cancel(ids[2]) == "ended cancelled")
            #expect(try await cancel(ids[1]) == "cancelled")
            #expect(try await jobs.complete([claimed[1]]).values.map { $0 } == [.jobLost])
            #expect(try await cancel(ids[0]) == "ended completed")
            #expect(try await cancel(Seed.newRequestID()) == "unknown")
            try await jobs.harness.run("UPDATE jobs SET expires_at = now() - interval '1 s' WHERE ended_at IS NOT NULL")
            #expect(try await cancel(ids[0]) == "gone")
            #expect(try await jobs.harness.ask("SELECT remove_expired_jobs(1000)", as: "weir_jobs") == ["3"])
            #expect(try await cancel(ids[0]) == "gone")
            #expect(
                try await jobs.harness.ask("SELECT status, count(*) FROM requests GROUP BY 1 ORDER BY 1") == [
                    "cancelled|2", "completed|1",
                ])
        }
    }

    @Test("a tenant sees its own jobs, and no role but the reader sees payloads or answers")
    func isolation() async throws {
        try await JobsUnderTest.with { jobs in
            let id = try await jobs.submit()[0]
            guard case .unknown = try await jobs.records.job(id, tenantID: Seed.tenantB) else {
                Issue.record("another tenant's job")
                return
            }
            #expect(
                try await jobs.harness.ask("SELECT job_id FROM jobs", as: "weir_reader", tenant: Seed.tenantB).isEmpty)
            for role in ["weir_writer", "weir_jobs", "weir_admin", "weir_reports", "weir_directory"] {
                #expect(try await jobs.harness.sqlState(of: "SELECT payload FROM jobs", as: role) == "42501", "\(role)")
                #expect(try await jobs.harness.sqlState(of: "SELECT answer FROM jobs", as: role) == "42501", "\(role)")
            }
            // The rows of other requests are written once.
            _ = try await jobs.harness.settle([Seed.settlement()])
            try await jobs.harness.run(
                "UPDATE requests SET status = 'failed', error_code = 'x' WHERE NOT is_job", as: "weir_writer")
            #expect(try await jobs.harness.ask("SELECT status FROM requests WHERE NOT is_job") == ["completed"])
        }
    }

    @Test("the same idempotency key queues once, and its claim's other attempt queues nothing")
    func idempotency() async throws {
        try await JobsUnderTest.with { jobs in
            let claim = IdempotencyClaim.new("k")
            try await jobs.harness.withClaims { store in
                let fingerprint = IdempotencyStoreTests.fingerprint
                #expect(try await store.claim(claim, fingerprint: fingerprint) == .claimed)
                let answer = ClaimedAnswer(claim: claim, fields: Array("x: 1".utf8), body: Array("{}".utf8))
                #expect(try await jobs.submit(answer: answer).count == 1)
                #expect(try await jobs.submit(answer: answer).count == 1)
                let stranger = ClaimedAnswer(
                    claim: IdempotencyClaim.new("k"), fields: Array("x: 2".utf8), body: Array("{}".utf8))
                #expect(try await jobs.submit(answer: stranger).isEmpty)
                guard case .answered(let kept) = try await store.claim(.new("k"), fingerprint: fingerprint) else {
                    Issue.record("not answered")
                    return
                }
                #expect(kept.requestID == claim.requestID)
                #expect(kept.status == 202)
            }
            #expect(try await jobs.harness.ask("SELECT count(*) FROM jobs") == ["1"])
        }
    }

    @Test("a batch is read in order, counted and cancelled in steps")
    func batches() async throws {
        try await JobsUnderTest.with { jobs in
            let batch = BatchID(high: 7, low: 7)
            let ids = try await jobs.submit(5, batch: batch)
            try await jobs.submit(2)
            let claimed = try await jobs.claim(1)
            _ = try await jobs.complete(claimed)
            let page = try await jobs.records.jobs(of: batch, tenantID: Seed.tenantA, after: ids[1], limit: 2)
            #expect(page.map(\.id) == Array(ids[2...3]))
            #expect(page.map(\.customID) == ["line-2", "line-3"])
            #expect(try await jobs.records.counts(of: batch, tenantID: Seed.tenantA) == [.completed: 1, .queued: 4])
            #expect(try await jobs.records.counts(of: batch, tenantID: Seed.tenantB).isEmpty)
            #expect(try await jobs.records.cancel(batch: batch, tenantID: Seed.tenantA, limit: 3) == 3)
            #expect(try await jobs.records.cancel(batch: batch, tenantID: Seed.tenantA, limit: 3) == 1)
            #expect(try await jobs.records.counts(of: batch, tenantID: Seed.tenantA) == [.completed: 1, .cancelled: 4])
            #expect(try await jobs.records.ended(among: ids) == Set(ids))
            #expect(try await jobs.records.queuedCount(of: Seed.tenantA, bound: 10) == 2)
        }
    }

    @Test("what a job did is counted in the quarter in which it ran, once, and a rebuilding says the same")
    func rollUp() async throws {
        try await JobsUnderTest.with { jobs in
            try await jobs.submit(2)
            let claimed = try await jobs.claim()
            _ = try await jobs.complete([claimed[0]])
            _ = try await jobs.store.giveBack([
                JobReturn(attempt: claimed[1].attempt, disposition: .fail, code: .badUpstream, detail: "")
            ])
            try await jobs.harness.rollUpAll()
            let question = "SELECT sum(request_count), sum(error_count) FROM model_usage_metrics"
            try await eventually("the failure is counted") {
                _ = try await jobs.harness.ask("SELECT roll_up_usage()", as: "weir_jobs")
                return try await jobs.harness.ask(question) == ["1|1"]
            }
            try await jobs.harness.run("SELECT rebuild_usage('-infinity', 'infinity')")
            #expect(try await jobs.harness.ask(question) == ["1|1"])
        }
    }
}
