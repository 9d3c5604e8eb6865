import Domain
import PostgresDriver
import TestSupport

@testable import Storage

/// The queue of a test, with the verbs of two processes.
struct JobsUnderTest {
    let harness: StorageHarness
    let pool: PostgresPool
    let store: JobStore
    let other: JobStore
    let records: JobRecordStore

    static let nobody = TenantID(high: 0, low: 0)

    static func with<T: Sendable>(
        leaseMilliseconds: Int64 = 600_000, _ body: (JobsUnderTest) async throws -> T
    ) async throws -> T {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_writer", connections: 8) { writer in
                try await harness.withPool("weir_reader", connections: 2) { reader in
                    try await body(
                        JobsUnderTest(
                            harness: harness, pool: writer,
                            store: JobStore(
                                pool: writer, gatewayID: Seed.gateway, leaseMilliseconds: leaseMilliseconds),
                            other: JobStore(
                                pool: writer, gatewayID: Seed.otherGateway, leaseMilliseconds: leaseMilliseconds),
                            records: JobRecordStore(reader: reader, writer: writer)))
                }
            }
        }
    }

    /// Queues jobs in the order of the array. A batch is there and runs afterwards.
    @discardableResult
    func submit(
        _ count: Int = 1, tenant: TenantID = Seed.tenantA, priority: Int16 = 5, runAt: Timestamp? = nil,
        payload: String = "{}", lifetimeMilliseconds: Int64 = 86_400_000, batch: BatchID? = nil,
        answer: ClaimedAnswer? = nil
    ) async throws -> [RequestID] {
        if let batch {
            try await harness.run(
                """
                INSERT INTO batches (batch_id, tenant_id, key_id, endpoint, input_file_id, state, total, expires_at)
                VALUES ('\(batch)', '\(tenant)', '\(Seed.keyA)', '/v1/completions', new_uuid7(), 'in_progress', \(count),
                    clock_timestamp() + interval '1 hour') ON CONFLICT DO NOTHING
                """)
        }
        let now = MachineTime().now
        let jobs = (0..<count).map { number in
            JobSubmission(
                jobID: answer?.claim.requestID
                    ?? Seed.newRequestID(
                        at: Timestamp(microsecondsSince1970: now.microsecondsSince1970 + Int64(number) * 1_000)),
                tenantID: tenant, userID: nil, keyID: tenant == Seed.tenantA ? Seed.keyA : Seed.keyB,
                operation: "predict", model: "iris", payload: Array(payload.utf8),
                schedule: .init(priority: priority, runAt: runAt), estimatedTokens: 10, createdAt: now,
                lifetimeMilliseconds: lifetimeMilliseconds, batchID: batch, batchClaim: batch == nil ? nil : 0,
                customID: batch == nil ? nil : "line-\(number)",
                answer: answer)
        }
        let disowned = try await pool.execute(SubmitJobs(gatewayID: Seed.gateway, jobs: jobs))
        return jobs.map(\.jobID).filter { !disowned.contains($0) }
    }

    func claim(_ limit: Int = 100, after: TenantID = nobody) async throws -> [ClaimedJob] {
        try await store.claim(limit: limit, after: after).jobs
    }

    /// Takes over what has run out of its lease.
    func recover(_ limit: Int = 10) async throws -> JobRecovery {
        try await other.recover(limit: limit, backoff: JobBackoff())
    }

    /// The pauses of all are over.
    func passPauses() async throws {
        try await harness.run("UPDATE jobs SET run_at = now() WHERE state = 'queued' AND NOT is_ready")
    }

    func states() async throws -> [String] {
        try await harness.ask(
            "SELECT j.state, r.status, count(*) FROM jobs j JOIN requests r ON r.request_id = j.job_id GROUP BY 1, 2 ORDER BY 1"
        )
    }

    /// Settles attempts as a writer does.
    func complete(
        _ jobs: [ClaimedJob], gateway: GatewayID = Seed.gateway, lease: LeaseID? = nil, again: Bool = false,
        others: [Settlement] = []
    ) async throws -> [RequestID: SettlementResult] {
        let batch =
            jobs.map { job in
                Seed.settlement(
                    id: job.attempt.jobID, tenant: job.tenantID, key: job.keyID, lease: lease,
                    job: JobCompletion(attempt: job.attempt, answer: Array(#"{"n":1}"#.utf8)))
            } + others
        return try await harness.onSession("weir_writer") { session in
            let statement = SettleJobBatch(gatewayID: gateway, batch: batch[...])
            let rows =
                again
                ? try session.pipeline(HoldGatewayLockAlone(gatewayID: gateway), statement).1
                : try session.pipeline(HoldGatewayLock(gatewayID: gateway), statement).1
            return Dictionary(rows.map { ($0.requestID, $0.result) }) { first, _ in first }
        }
    }
}
