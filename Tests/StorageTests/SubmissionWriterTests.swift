import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("the writer of submissions")
struct SubmissionWriterTests {
    static func job(custom: String? = nil) -> JobSubmission {
        JobSubmission(
            jobID: Seed.newRequestID(), tenantID: Seed.tenantA, userID: nil, keyID: Seed.keyA, operation: "predict",
            model: "iris", payload: [0x7B, 0x7D], estimatedTokens: 1, createdAt: MachineTime().now, customID: custom)
    }

    private func withWriter<T: Sendable>(
        options: SubmissionWriter.Options = SubmissionWriter.Options(),
        _ body: (SubmissionWriter, StorageHarness) async throws -> T
    ) async throws -> T {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_writer", connections: 2) { pool in
                let writer = SubmissionWriter(
                    pool: pool, gatewayID: Seed.gateway, options: options, time: MachineTime(),
                    logger: StorageHarness.logger)
                async let running: Void = writer.run()
                let result = try await body(writer, harness)
                writer.close()
                await running
                return result
            }
        }
    }

    @Test("many who submit at once share commits, and each learns of its own")
    func together() async throws {
        try await withWriter { writer, harness in
            let results = await withTaskGroup(of: [SubmissionResult].self) { group in
                for _ in 0..<200 { group.addTask { await writer.submit([Self.job()]) } }
                return await group.reduce(into: []) { $0 += $1 }
            }
            #expect(results.count == 200 && results.allSatisfy { $0 == .queued })
            let rows = try await harness.ask("SELECT count(*), count(DISTINCT xmin::text) < 100 FROM jobs")
            #expect(rows == ["200|true"])
        }
    }

    @Test("a job that the database refuses does not take its neighbours with it")
    func halving() async throws {
        try await withWriter { writer, harness in
            var jobs = (0..<9).map { _ in Self.job() }
            jobs[4] = Self.job(custom: String(repeating: "x", count: 600))
            let results = await writer.submit(jobs)
            #expect(results.indices.filter { results[$0] == .rejected } == [4])
            #expect(results.count { $0 == .queued } == 8)
            let rows = try await harness.ask("SELECT count(*) FROM jobs")
            #expect(rows == ["8"])
        }
    }

    @Test("beyond its bound the writer refuses at once")
    func bound() async throws {
        var options = SubmissionWriter.Options()
        options.queueLimit = 3
        try await withWriter(options: options) { writer, _ in
            #expect(await writer.submit((0..<4).map { _ in Self.job() }).allSatisfy { $0 == .overloaded })
            #expect(await writer.submit((0..<3).map { _ in Self.job() }).allSatisfy { $0 == .queued })
        }
    }
}
