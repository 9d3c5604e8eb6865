import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("kept results")
struct ResultStoreTests {
    private static let content = ResultID(high: 0x1234_5678_9ABC_8DEF, low: 0x8000_0000_0000_0001)

    private func settlement(generation: Int32 = 0, id: ResultID = content, prompt: String? = nil) -> Settlement {
        Seed.settlement(
            prompt: prompt, result: #"{"prediction":1}"#, resultID: id, generation: generation)
    }

    @Test("a thousand equal results of many batches are one row, to which all refer")
    func oneRow() async throws {
        try await StorageHarness.with { harness in
            for _ in 0..<4 { _ = try await harness.settle((0..<250).map { _ in settlement() }) }
            try await #expect(harness.ask("SELECT result_id FROM results") == ["\(Self.content)"])
            try await #expect(
                harness.ask("SELECT count(*) FROM requests JOIN results USING (result_id)") == ["1000"])
        }
    }

    @Test("bytes of another type are kept beside texts, once as well")
    func binary() async throws {
        try await StorageHarness.with { harness in
            let image = { Seed.settlement(result: "\u{1}png", resultID: Self.content, mediaType: "image/png") }
            _ = try await harness.settle([image(), settlement(), image()])
            try await #expect(
                harness.ask("SELECT mime_type, encode(content, 'hex') FROM binary_results") == ["image/png|01706e67"])
            try await #expect(harness.ask("SELECT count(*) FROM results") == ["1"])
        }
    }

    @Test("a fresh content is neither written nor locked by whoever needs it again")
    func freshIsFree() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([settlement()])
            let before = try await harness.ask("SELECT xmin, ctid FROM results")
            let other = try SessionInHand(try harness.configuration(nil))
            try await other.run { try $0.run(script: "BEGIN; SELECT FROM results FOR UPDATE") }
            _ = try await harness.settle([settlement()])
            try await other.run { try $0.run(script: "ROLLBACK") }
            try await #expect(harness.ask("SELECT xmin, ctid FROM results") == before)
        }
    }

    @Test("an old content is touched, and then is not due any more")
    func touched() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([settlement()])
            try await harness.run("UPDATE results SET touched_at = now() - interval '1 year'")
            _ = try await harness.settle([settlement()])
            try await #expect(harness.ask("SELECT remove_expired_results(10)", as: "weir_jobs") == ["0"])
            try await #expect(
                harness.ask("SELECT count(*) FROM results WHERE touched_at > now() - interval '1 minute'") == ["1"])
        }
    }

    @Test("a content that is being removed is made anew for a request that needs it at that moment")
    func removalFirst() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([settlement()])
            try await harness.run("UPDATE results SET touched_at = now() - interval '1 year'")
            let remover = try SessionInHand(try harness.configuration("weir_jobs"))
            try await remover.run { try $0.run(script: "BEGIN; SELECT remove_expired_results(10)") }
            let late = settlement()
            async let settled = harness.settle([late])
            try await eventually("the settlement waits for the row") {
                try await harness.ask(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ) != ["0"]
            }
            try await remover.run { try $0.run(script: "COMMIT") }
            try await #expect(settled.isEmpty)
            try await #expect(
                harness.ask(
                    "SELECT count(*) FROM requests JOIN results USING (result_id) WHERE request_id = '\(late.requestID)'"
                )
                    == ["1"])
        }
    }

    @Test("a removal passes over a content that a settlement is touching")
    func settlementFirst() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([settlement()])
            try await harness.run("UPDATE results SET touched_at = now() - interval '1 year'")
            let toucher = try SessionInHand(try harness.configuration(nil))
            try await toucher.run { try $0.run(script: "BEGIN; UPDATE results SET touched_at = now()") }
            try await #expect(harness.ask("SELECT remove_expired_results(10)", as: "weir_jobs") == ["0"])
            try await toucher.run { try $0.run(script: "COMMIT") }
            try await #expect(harness.ask("SELECT remove_expired_results(10)", as: "weir_jobs") == ["0"])
        }
    }

    @Test("the tenant's time to live goes before its tier's")
    func timeToLive() async throws {
        try await StorageHarness.with { harness in
            _ = try await harness.settle([settlement()])
            try await harness.run("UPDATE results SET touched_at = now() - interval '25 hours'")
            try await harness.run("UPDATE tenants SET result_ttl_seconds = 100000")
            try await #expect(harness.ask("SELECT remove_expired_results(10)", as: "weir_jobs") == ["0"])
            try await harness.run("UPDATE tenants SET result_ttl_seconds = NULL")
            try await #expect(harness.ask("SELECT remove_expired_results(10)", as: "weir_jobs") == ["1"])
        }
    }

    @Test("a stricter policy erases what is kept, by batches, and nothing that is kept later")
    func erasure() async throws {
        try await StorageHarness.with { harness in
            let old = (0..<25).map { number in
                settlement(
                    id: ResultID(high: 0x8000, low: 0x8000_0000_0000_0000 | UInt64(number)), prompt: "p\(number)")
            }
            _ = try await harness.settle(old)
            try await harness.run("UPDATE tenants SET retention = 'hashed' WHERE tenant_id = '\(Seed.tenantA)'")
            try await harness.run("UPDATE tenants SET retention = 'full' WHERE tenant_id = '\(Seed.tenantA)'")
            let later = Seed.settlement(
                at: MachineTime().now.advanced(byMilliseconds: 60_000), prompt: "later",
                result: #"{"prediction":2}"#, resultID: Self.content, generation: 1)
            _ = try await harness.settle([later])
            var turns = 0
            while try await harness.ask("SELECT erase_kept(10)", as: "weir_jobs") != ["0"] { turns += 1 }
            // Contents in three batches, requests in three, and the end of the first pass.
            #expect(turns == 7)
            try await #expect(harness.ask("SELECT result_id FROM results") == ["\(Self.content)"])
            try await #expect(harness.ask("SELECT prompt FROM requests WHERE prompt IS NOT NULL") == ["later"])
            let digests = "SELECT count(*) FROM requests WHERE prompt_sha256 = sha256(convert_to('p3', 'UTF8'))"
            try await #expect(harness.ask(digests) == ["1"])
            try await #expect(harness.ask("SELECT pass, finished_at IS NULL FROM retention_erasures") == ["2|true"])
        }
    }

    @Test("requests that were under way are found by a second pass")
    func secondPass() async throws {
        try await StorageHarness.with { harness in
            // Before the change, and settled behind it.
            let late = settlement(prompt: "late")
            try await harness.run("UPDATE tenants SET retention = 'none' WHERE tenant_id = '\(Seed.tenantA)'")
            while try await harness.ask("SELECT erase_kept(10)", as: "weir_jobs") != ["0"] {}
            _ = try await harness.settle([late])
            try await harness.run("UPDATE retention_erasures SET due_at = now()")
            while try await harness.ask("SELECT erase_kept(10)", as: "weir_jobs") != ["0"] {}
            try await #expect(
                harness.ask(
                    "SELECT count(*) FROM requests WHERE prompt IS NOT NULL OR prompt_sha256 IS NOT NULL OR result_sha256 IS NOT NULL"
                )
                    == ["0"])
            try await #expect(harness.ask("SELECT count(*) FROM results") == ["0"])
            try await #expect(harness.ask("SELECT finished_at IS NOT NULL FROM retention_erasures") == ["true"])
        }
    }
}
