import Domain
import PostgresDriver
import TestSupport
import Testing

@testable import Storage

@Suite("files of batches")
struct FileStoreTests {
    private func withFiles<T: Sendable>(
        _ body: (StorageHarness, FileStore) async throws -> T
    ) async throws -> T {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_customer", connections: 8) { pool in
                try await body(harness, FileStore(pool: pool, time: MachineTime()))
            }
        }
    }

    private func upload(_ files: FileStore, tenant: TenantID = Seed.tenantA) async throws -> FileID {
        let id = try #require(try await files.begin(filename: "a", tenantID: tenant, limit: 100))
        #expect(try await files.append([1, 2, 3], to: id, position: 0, tenantID: tenant, tenantLimit: 1_000) == .kept)
        #expect(try await files.complete(id, tenantID: tenant) != nil)
        return id
    }

    @Test("uploads that come at once find no more places than there are")
    func count() async throws {
        try await withFiles { harness, files in
            let begun = try await withThrowingTaskGroup(of: Bool.self) { group in
                for _ in 0..<24 {
                    group.addTask { try await files.begin(filename: "a", tenantID: Seed.tenantA, limit: 5) != nil }
                }
                return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(begun == 5)
            #expect(try await files.begin(filename: "a", tenantID: Seed.tenantB, limit: 5) != nil)
            let one = try #require(
                FileID(
                    try await harness.ask("SELECT file_id FROM files WHERE tenant_id = '\(Seed.tenantA)' LIMIT 1")[0]))
            try await files.abandon(one, tenantID: Seed.tenantA)
            #expect(try await files.begin(filename: "a", tenantID: Seed.tenantA, limit: 5) != nil)
        }
    }

    @Test("a piece waits for another one of the same tenant that is being added, and is measured with it")
    func bytes() async throws {
        try await withFiles { harness, files in
            let first = try #require(try await files.begin(filename: "a", tenantID: Seed.tenantA, limit: 100))
            let second = try #require(try await files.begin(filename: "b", tenantID: Seed.tenantA, limit: 100))
            let other = try SessionInHand(harness.configuration("weir_customer"))
            try await other.run { session in
                try session.run(
                    script: """
                        BEGIN; SELECT set_config('weir.tenant_id', '\(Seed.tenantA)', true);
                        SELECT append_upload('\(first)', '\(Seed.tenantA)', 0, '\\x616161'::bytea, 5)
                        """)
            }
            async let answer = files.append([1, 2, 3], to: second, position: 0, tenantID: Seed.tenantA, tenantLimit: 5)
            try await eventually("the second piece waits") {
                try await harness.ask(
                    "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                ) == ["true"]
            }
            try await other.run { try $0.run(script: "COMMIT") }
            #expect(try await answer == .full)
            #expect(try await harness.ask("SELECT sum(bytes) FROM files") == ["3"])
        }
    }

    @Test(
        "files are kept as long as the policy says",
        arguments: [("full", "2592000", "2592000"), ("hashed", "86400", "300"), ("none", "86400", "300")])
    func times(policy: String, input: String, output: String) async throws {
        try await withFiles { harness, files in
            try await harness.run(
                "UPDATE tenants SET retention = '\(policy)', result_ttl_seconds = 300 WHERE tenant_id = '\(Seed.tenantA)'"
            )
            _ = try await upload(files)
            try await harness.run(
                """
                INSERT INTO files (file_id, tenant_id, purpose, filename, created_at, expires_at)
                VALUES (new_uuid7(), '\(Seed.tenantA)', 'batch_output', 'o', now() - interval '20 hours', now() + interval '29 days');
                UPDATE files SET is_complete = true WHERE purpose = 'batch_output'
                """)
            #expect(
                try await harness.ask(
                    "SELECT round(extract(epoch FROM expires_at - created_at)) FROM files WHERE purpose = 'batch'")
                    == [input])
            // An output's time begins when it is whole.
            #expect(
                try await harness.ask(
                    "SELECT round(extract(epoch FROM expires_at - completed_at)) FROM files WHERE purpose = 'batch_output'"
                )
                    == [output])
        }
    }

    @Test("a stricter policy erases the files that nobody needs any more")
    func stricterPolicy() async throws {
        try await withFiles { harness, files in
            let (read, running, unused, old) = (
                try await upload(files), try await upload(files), try await upload(files), try await upload(files)
            )
            try await harness.run(
                """
                UPDATE files SET created_at = now() - interval '25 hours' WHERE file_id = '\(old)';
                INSERT INTO batches (batch_id, tenant_id, key_id, endpoint, input_file_id, state, expires_at)
                SELECT new_uuid7(), '\(Seed.tenantA)', '\(Seed.keyA)', '/v1/completions', f, s, now() + interval '1 hour'
                FROM (VALUES ('\(read)'::uuid, 'completed'), ('\(running)'::uuid, 'completed'), ('\(running)'::uuid, 'in_progress')) AS v (f, s);
                INSERT INTO files (file_id, tenant_id, purpose, filename, expires_at)
                SELECT new_uuid7(), '\(Seed.tenantA)', 'batch_output', n, now() + interval '30 days' FROM unnest(ARRAY['done', 'open']) AS n;
                UPDATE files SET is_complete = true WHERE filename = 'done'
                """)
            let others = try await upload(files, tenant: Seed.tenantB)
            try await harness.run("UPDATE tenants SET retention = 'none' WHERE tenant_id = '\(Seed.tenantA)'")
            var turns = 0
            while try await harness.ask("SELECT erase_kept(10)", as: "weir_jobs") != ["0"], turns < 100 { turns += 1 }
            #expect(turns < 100)
            let left = try await harness.ask("SELECT file_id FROM files WHERE filename <> 'open' ORDER BY file_id")
            #expect(left == [running, unused, others].map(\.description).sorted())
            #expect(try await harness.ask("SELECT count(*) FROM files WHERE filename = 'open'") == ["1"])
            #expect(
                try await harness.ask(
                    "SELECT DISTINCT round(extract(epoch FROM expires_at - created_at)) FROM files WHERE tenant_id = '\(Seed.tenantA)' AND purpose = 'batch'"
                ) == ["86400"])
            // A day later one is gone, and the other when its batch has ended.
            try await harness.run("UPDATE files SET expires_at = now() WHERE purpose = 'batch'")
            #expect(try await harness.ask("SELECT remove_expired_files(10)", as: "weir_jobs") == ["2"])
            try await harness.run("UPDATE batches SET state = 'completed'")
            #expect(try await harness.ask("SELECT remove_expired_files(10)", as: "weir_jobs") == ["1"])
        }
    }
}
