import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("the queue of batches")
struct BatchQueueTests {
    private struct Fixture {
        let jobs: JobsUnderTest
        let queue: BatchQueueStore
        let id = BatchID(high: 0x0190_0000_0000_7009, low: 0x8000_0000_0000_0009)

        /// A batch that runs and is nobody's.
        func add(total: Int) async throws {
            try await jobs.harness.run(
                """
                INSERT INTO batches (batch_id, tenant_id, key_id, endpoint, input_file_id, state, total, expires_at)
                VALUES ('\(id)', '\(Seed.tenantA)', '\(Seed.keyA)', '/v1/completions', new_uuid7(), 'in_progress', \(total),
                    clock_timestamp() + interval '1 hour')
                """)
        }

        func claim() async throws -> ClaimedBatch {
            try #require(await queue.claim(leaseMilliseconds: 600_000))
        }

        func letGo() async throws { try await jobs.harness.run("UPDATE batches SET due_at = clock_timestamp()") }

        func cancel() async throws -> Batch? {
            try await jobs.harness.withPool("weir_customer", connections: 1) { pool in
                try await BatchStore(pool: pool, time: MachineTime()).cancel(id, tenantID: Seed.tenantA)
            }
        }

        static func submissions(_ batch: ClaimedBatch, lines: Range<Int32>) -> [JobSubmission] {
            lines.map { line in
                JobSubmission(
                    jobID: batch.jobID(line: line), tenantID: batch.tenantID, userID: nil, keyID: batch.keyID,
                    operation: "completions", model: "iris", payload: [0x7B, 0x7D], estimatedTokens: 1,
                    createdAt: batch.createdAt, batchID: batch.id, batchClaim: batch.claim, customID: "line-\(line)")
            }
        }

        /// - Returns: the lines that were left out.
        func submit(_ batch: ClaimedBatch, lines: Range<Int32>) async throws -> [RequestID] {
            try await jobs.pool.execute(
                SubmitJobs(gatewayID: Seed.gateway, jobs: Self.submissions(batch, lines: lines)))
        }

        func skip(_ batch: ClaimedBatch, lines: Range<Int32>) async throws -> Bool {
            try await queue.noteReading(
                batch, lines: lines.upperBound, place: InputPlace(position: 0, offset: 1),
                skipped: lines.map { SkippedLine(jobID: batch.jobID(line: $0), text: "{\"skipped\": \($0)}\n") })
        }
    }

    private func withBatch<T: Sendable>(of total: Int, _ body: (Fixture) async throws -> T) async throws -> T {
        try await JobsUnderTest.with { jobs in
            let fixture = Fixture(jobs: jobs, queue: BatchQueueStore(pool: jobs.pool, jobs: jobs.pool))
            try await fixture.add(total: total)
            return try await body(fixture)
        }
    }

    @Test("lines that were submitted and not noted are collected, and only the others skipped")
    func skippedBehindSubmitted() async throws {
        try await withBatch(of: 5) { fixture in
            let former = try await fixture.claim()
            #expect(try await fixture.submit(former, lines: 0..<3).isEmpty)
            _ = try await fixture.jobs.complete(try await fixture.jobs.claim(1))
            // The keeper dies here.
            #expect(try await fixture.cancel()?.state == .cancelling)
            try await fixture.letGo()
            let holder = try await fixture.claim()
            #expect(holder.state == .cancelling && holder.readLines == 0)
            #expect(try await fixture.jobs.records.cancel(batch: fixture.id, tenantID: Seed.tenantA, limit: 10) == 2)
            #expect(try await !fixture.skip(former, lines: 0..<5))
            #expect(try await fixture.skip(holder, lines: 0..<5))
            #expect(try await fixture.queue.collect(holder, limit: 500) == 3)
            let ends = try await fixture.jobs.harness.ask(
                "SELECT state, collected, skipped, completed, failed FROM batches")
            #expect(ends == ["cancelled|3|2|1|4"])
            let errors = try await fixture.jobs.harness.ask(
                """
                SELECT coalesce(l.line::json ->> 'skipped', l.line::json ->> 'custom_id')
                FROM batches b JOIN file_chunks c ON c.file_id = b.error_file_id,
                    LATERAL regexp_split_to_table(rtrim(convert_from(c.content, 'UTF8'), E'\\n'), E'\\n') AS l (line)
                ORDER BY 1
                """)
            #expect(errors == ["3", "4", "line-1", "line-2"])
        }
    }

    @Test("a batch of which everything was submitted skips nothing and ends")
    func allSubmitted() async throws {
        try await withBatch(of: 2) { fixture in
            #expect(try await fixture.submit(try await fixture.claim(), lines: 0..<2).isEmpty)
            _ = try await fixture.cancel()
            try await fixture.letGo()
            let holder = try await fixture.claim()
            _ = try await fixture.jobs.records.cancel(batch: fixture.id, tenantID: Seed.tenantA, limit: 10)
            #expect(try await fixture.skip(holder, lines: 0..<2))
            #expect(try await fixture.queue.collect(holder, limit: 500) == 2)
            let ends = try await fixture.jobs.harness.ask("SELECT state, collected, skipped, failed FROM batches")
            #expect(ends == ["cancelled|2|0|2"])
        }
    }

    @Test("a cancellation leaves the claim to its holder")
    func cancelledUnderClaim() async throws {
        try await withBatch(of: 1) { fixture in
            let holder = try await fixture.claim()
            #expect(try await fixture.cancel()?.state == .cancelling)
            #expect(try await fixture.queue.claim(leaseMilliseconds: 1_000) == nil)
            #expect(try await fixture.queue.hold(holder, leaseMilliseconds: 0) == .cancelling)
            #expect(try await fixture.queue.claim(leaseMilliseconds: 1_000)?.claim == holder.claim + 1)
        }
    }

    @Test("who has lost a batch submits nothing of it, and nobody does of one that is cancelled")
    func fence() async throws {
        try await withBatch(of: 4) { fixture in
            let former = try await fixture.claim()
            #expect(try await fixture.submit(former, lines: 0..<1).isEmpty)
            try await fixture.letGo()
            let holder = try await fixture.claim()
            let late = (Int32(0)..<4).map { former.jobID(line: $0) }
            #expect(Set(try await fixture.submit(former, lines: 0..<4)) == Set(late))
            #expect(try await fixture.submit(holder, lines: 1..<2).isEmpty)
            _ = try await fixture.cancel()
            #expect(try await fixture.submit(holder, lines: 2..<4).count == 2)
            // Its neighbours in the statement are queued.
            let (mixed, alone) = (Fixture.submissions(holder, lines: 2..<3), SubmissionWriterTests.job())
            let left = try await fixture.jobs.pool.execute(SubmitJobs(gatewayID: Seed.gateway, jobs: mixed + [alone]))
            #expect(left == mixed.map(\.jobID))
            let rows = try await fixture.jobs.harness.ask(
                "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM requests WHERE is_job)")
            #expect(rows == ["3|3"])
        }
    }

    @Test("a submission that meets a claim under way waits for it and is left out")
    func fenceUnderWay() async throws {
        try await withBatch(of: 2) { fixture in
            let former = try await fixture.claim()
            let second = try SecondSession(fixture.jobs.harness.configuration("weir_writer"))
            let waiting = try await fixture.jobs.harness.onSession { session in
                try session.run(script: "BEGIN; UPDATE batches SET claim = claim + 1")
                let waiting = second.start { session in
                    try session.execute(
                        SubmitJobs(gatewayID: Seed.gateway, jobs: Fixture.submissions(former, lines: 0..<2)))
                }
                #expect(!waiting.isFinished(withinMilliseconds: 300))
                try session.run(script: "COMMIT")
                return waiting
            }
            #expect(try waiting.result().count == 2)
            #expect(try await fixture.jobs.harness.ask("SELECT count(*) FROM jobs") == ["0"])
        }
    }

    @Test("a job of a batch stays for three days, also when its settlement is sent again")
    func stay() async throws {
        try await withBatch(of: 1) { fixture in
            _ = try await fixture.submit(try await fixture.claim(), lines: 0..<1)
            let claimed = try await fixture.jobs.claim()
            for again in [false, true] {
                #expect(try await fixture.jobs.complete(claimed, again: again).isEmpty)
                let stays = try await fixture.jobs.harness.ask(
                    "SELECT state, expires_at >= ended_at + interval '72 hours' FROM jobs")
                #expect(stays == ["completed|true"])
            }
        }
    }
}
