import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("idempotency keys")
struct IdempotencyStoreTests {
    /// What both stores are held to; see ``KeyStoreUnderTest``.
    @Test("a key behaves alike in memory and in the database", arguments: ["memory", "database"])
    func conformance(kind: String) async throws {
        if kind == "memory" {
            try await KeyStoreConformance.check(MemoryKeys())
        } else {
            try await StorageHarness.with { harness in
                try await harness.withClaims { try await KeyStoreConformance.check(DatabaseKeys(harness, $0)) }
            }
        }
    }

    @Test("of many attempts at once on several gateways one gets the key")
    func race() async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_writer", connections: 12) { pool in
                for round in 0..<5 {
                    let outcomes = try await withThrowingTaskGroup(of: ClaimOutcome.self) { group in
                        for number in 0..<40 {
                            let store = ClaimStore(
                                pool: pool, gatewayID: number % 2 == 0 ? Seed.gateway : Seed.otherGateway,
                                claimMilliseconds: 600_000)
                            group.addTask {
                                try await store.claim(.new("race-\(round)"), fingerprint: Self.fingerprint)
                            }
                        }
                        return try await group.reduce(into: []) { $0.append($1) }
                    }
                    #expect(outcomes.count { $0 == .claimed } == 1)
                    #expect(outcomes.count { $0 == .inFlight } == 39)
                }
            }
        }
    }

    @Test("of many attempts at once one takes a claim over that ran out")
    func takeOverRace() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims(connections: 12) { store in
                #expect(try await store.claim(.new("k"), fingerprint: Self.fingerprint) == .claimed)
                try await harness.run("UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 ms'")
                let outcomes = try await withThrowingTaskGroup(of: ClaimOutcome.self) { group in
                    for _ in 0..<40 {
                        group.addTask { try await store.claim(.new("k"), fingerprint: Self.fingerprint) }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                #expect(outcomes.count { $0 == .claimed } == 1)
                #expect(outcomes.count { $0 == .inFlight } == 39)
                try await #expect(harness.ask("SELECT attempt FROM idempotency_keys") == ["2"])
            }
        }
    }

    static let fingerprint = [UInt8](repeating: 7, count: 32)
}

@Suite("the settlement of claimed requests")
struct SettleClaimedTests {
    private static let fingerprint = IdempotencyStoreTests.fingerprint

    /// A settlement whose claim is made, and what it keeps.
    private func claimed(
        _ store: ClaimStore, _ key: String = "k", tenant: TenantID = Seed.tenantA, lease: LeaseID? = nil,
        body: String = "{}"
    ) async throws -> Settlement {
        let claim = IdempotencyClaim.new(key, tenant: tenant)
        #expect(try await store.claim(claim, fingerprint: Self.fingerprint) == .claimed)
        return Seed.settlement(
            id: claim.requestID, tenant: tenant, lease: lease,
            answer: ClaimedAnswer(claim: claim, fields: Array("x-a: 1\r\nx-b: 2".utf8), body: Array(body.utf8)))
    }

    @Test("the answer is there if and only if the charge is")
    func together() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let settlement = try await claimed(store, body: "{\"a\":\"ü\"}\u{0}")
                let plain = Seed.settlement()
                try await #expect(harness.settleClaimed([plain, settlement]).isEmpty)
                try await #expect(
                    harness.ask("SELECT count(*), count(DISTINCT tx) FROM ledger") == ["2|1"])
                let outcome = try await store.claim(.new("k"), fingerprint: Self.fingerprint)
                #expect(
                    outcome
                        == .answered(
                            KeptAnswer(
                                requestID: settlement.requestID, status: 200, fields: "x-a: 1\r\nx-b: 2",
                                body: Array("{\"a\":\"ü\"}\u{0}".utf8))))
                try await #expect(
                    harness.ask(
                        """
                        SELECT state, expires_at - answered_at BETWEEN interval '47:59:59' AND interval '48:00:01', gateway_id
                        FROM idempotency_keys
                        """) == ["answered|true|\(Seed.gateway)"])
                // A failure of the statement takes both with it.
                let broken = try await claimed(store, "broken")
                let impossible = Seed.settlement(id: broken.requestID, input: -1, cached: 0, answer: broken.answer)
                await #expect(throws: PostgresError.self) { try await harness.settleClaimed([impossible]) }
                #expect(try await store.claim(.new("broken"), fingerprint: Self.fingerprint) == .inFlight)
            }
        }
    }

    @Test("whoever lost its claim charges nothing, and its neighbours are charged")
    func lateOwner() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let late = try await claimed(store, "taken", body: "late")
                let gone = try await claimed(store, "gone")
                let free = try await claimed(store, "free")
                try await harness.run(
                    """
                    UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 ms' WHERE idempotency_key = 'taken';
                    DELETE FROM idempotency_keys WHERE idempotency_key = 'gone';
                    """)
                let second = try await claimed(store, "taken", body: "second")
                let plain = Seed.settlement()
                let refused = try await harness.settleClaimed([late, gone, free, plain])
                #expect(refused == [late.requestID: .claimLost, gone.requestID: .claimLost])
                try await #expect(
                    Set(harness.identifiers("entry_id", in: "ledger")) == [free.requestID, plain.requestID])
                try await #expect(
                    Set(harness.identifiers("request_id", in: "requests")) == [free.requestID, plain.requestID])
                #expect(try await store.claim(.new("taken"), fingerprint: Self.fingerprint) == .inFlight)
                try await #expect(harness.settleClaimed([second]).isEmpty)
                // Too late also after the answer, which it leaves as it is.
                try await #expect(harness.settleClaimed([late]) == [late.requestID: .claimLost])
                try await #expect(
                    harness.ask(
                        "SELECT request_id, convert_from(answer_body, 'UTF8') FROM idempotency_keys WHERE idempotency_key = 'taken'"
                    ) == ["\(second.requestID)|second"])
                try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["3"])
            }
        }
    }

    @Test("an owner that is late is charged as long as nobody took over")
    func lateButAlone() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let settlement = try await claimed(store)
                try await harness.run(
                    "UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 minute'")
                try await #expect(harness.settleClaimed([settlement]).isEmpty)
                guard case .answered = try await store.claim(.new("k"), fingerprint: Self.fingerprint) else {
                    Issue.record("it was charged, so it is answered")
                    return
                }
            }
        }
    }

    @Test("a batch that is sent again finds its own answers and charges once")
    func resend() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let batch = [try await claimed(store, "a"), try await claimed(store, "b"), Seed.settlement()]
                try await #expect(harness.settleClaimed(batch).isEmpty)
                try await #expect(harness.settleClaimed(batch, again: true).isEmpty)
                try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["3"])
                try await #expect(
                    harness.ask("SELECT DISTINCT state FROM idempotency_keys") == ["answered"])
            }
        }
    }

    @Test("on a lost lease the claim stays what it is, for the settlement on the next one")
    func leaseLost() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let settlement = try await claimed(store, lease: Seed.newLeaseID())
                try await #expect(harness.settleClaimed([settlement]) == [settlement.requestID: .leaseLost])
                #expect(try await store.claim(.new("k"), fingerprint: Self.fingerprint) == .inFlight)
                let second = Seed.settlement(id: settlement.requestID, answer: settlement.answer)
                try await #expect(harness.settleClaimed([second]).isEmpty)
                try await #expect(harness.ask("SELECT count(*) FROM ledger") == ["1"])
            }
        }
    }

    @Test(
        "taking over waits for a settlement under way and then sees its answer; the other way round the settlement loses"
    )
    func settlementAgainstTakeOver() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let first = try await claimed(store, "first")
                let late = try await claimed(store, "late")
                try await harness.run("UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 ms'")
                let outcome = try await harness.onSession("weir_writer") { session in
                    try session.begin()
                    _ = try SettlementText.writeClaimed([first], gateway: Seed.gateway, again: false, on: session)
                    let second = try SecondSession(harness.configuration("weir_writer"))
                    let waiting = second.start { try SettlementText.claim(.new("first"), Self.fingerprint, on: $0) }
                    #expect(!waiting.isFinished(withinMilliseconds: 200))
                    try session.commit()
                    return try waiting.result()
                }
                #expect(outcome == "answered")
                let refused = try await harness.onSession("weir_writer") { session in
                    try session.begin()
                    let taken = try SettlementText.claim(.new("late"), Self.fingerprint, on: session)
                    #expect(taken == "claimed")
                    let second = try SecondSession(harness.configuration("weir_writer"))
                    let waiting = second.start {
                        try SettlementText.writeClaimed([late], gateway: Seed.gateway, again: false, on: $0)
                    }
                    #expect(!waiting.isFinished(withinMilliseconds: 200))
                    try session.commit()
                    return try waiting.result()
                }
                #expect(refused == [late.requestID: .claimLost])
                try await #expect(harness.identifiers("entry_id", in: "ledger") == [first.requestID])
            }
        }
    }

    @Test("renewing and removing pass over a row that is being settled, so nobody can wait in a circle")
    func nobodyWaits() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let settled = try await claimed(store, "settled")
                let other = try await claimed(store, "other")
                let claims = [settled, other].compactMap { $0.answer?.claim }
                try await harness.run("UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '2 hours'")
                try await harness.onSession("weir_writer") { session in
                    try session.begin()
                    _ = try SettlementText.writeClaimed([settled], gateway: Seed.gateway, again: false, on: session)
                    let second = try SecondSession(harness.configuration("weir_writer"))
                    let renewing = second.start { try SettlementText.renew(claims, on: $0) }
                    #expect(renewing.isFinished(withinMilliseconds: 30_000))
                    let third = try SecondSession(harness.configuration("weir_jobs"))
                    let removing = third.start {
                        try $0.execute(DatabaseQuestion("SELECT remove_expired_idempotency_keys(10)"))
                    }
                    #expect(removing.isFinished(withinMilliseconds: 30_000))
                    #expect(try removing.result() == ["0"])
                    try session.commit()
                }
                try await #expect(
                    harness.ask(
                        "SELECT idempotency_key, state, expires_at > clock_timestamp() FROM idempotency_keys ORDER BY 1"
                    )
                        == ["other|claimed|true", "settled|answered|true"])
            }
        }
    }

    @Test("the writer tells each caller what became of its claim, and only batches with claims name keys")
    func writer() async throws {
        try await StorageHarness.with { harness in
            try await harness.withClaims { store in
                let late = try await claimed(store, "late")
                let good = try await claimed(store, "good")
                let plain = Seed.settlement()
                try await harness.run("DELETE FROM idempotency_keys WHERE idempotency_key = 'late'")
                try await harness.withWriter { writer in
                    let outcomes = Outcomes()
                    let lane = CountingLane()
                    for settlement in [late, plain, good] { outcomes.submit(settlement, to: writer, on: lane) }
                    try await eventually("all are told") { outcomes.results.count == 3 }
                    #expect(
                        outcomes.results == [
                            late.requestID: .claimLost, plain.requestID: .committed, good.requestID: .committed,
                        ])
                }
            }
        }
    }
}

@Suite("what is kept under idempotency keys")
struct KeptAnswerTests {
    private static let fill = """
        INSERT INTO idempotency_keys (tenant_id, idempotency_key, fingerprint, state, request_id, gateway_id, expires_at, answered_at,
            http_status, answer_fields, answer_body)
        SELECT '\(Seed.tenantA)', kind || n, decode(repeat('07', 32), 'hex'), CASE WHEN kind LIKE 'answer%' THEN 'answered' ELSE 'claimed' END,
            gen_random_uuid(), '\(Seed.gateway)', clock_timestamp() - age, a.at, a.status, a.text, a.bytes
        FROM (VALUES ('answer-old-', interval '1 ms'), ('answer-new-', interval '-1 hour'), ('claim-late-', interval '59 minutes'),
            ('claim-dead-', interval '61 minutes')) AS k (kind, age)
        CROSS JOIN generate_series(1, 25) n
        CROSS JOIN LATERAL (SELECT clock_timestamp() AS at, 200 AS status, '' AS text, ''::bytea AS bytes
            WHERE kind LIKE 'answer%' UNION ALL SELECT NULL, NULL, NULL, NULL WHERE kind NOT LIKE 'answer%') a
        """

    @Test("what has been kept for its time is removed in batches, and nothing else")
    func removal() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill)
            try await harness.withPool("weir_jobs") { pool in
                let store = HousekeepingStore(pool: pool)
                var removed: [Int] = []
                repeat { removed.append(try await store.removeExpiredKeys(limit: 20)) } while removed.last != 0
                #expect(removed == [20, 20, 10, 0])
            }
            let left = try await harness.ask(
                "SELECT rtrim(idempotency_key, '0123456789'), count(*) FROM idempotency_keys GROUP BY 1 ORDER BY 1")
            #expect(left == ["answer-new-|25", "claim-late-|25"])
        }
    }

    @Test("an answer is read through the claim and in no other way")
    func rights() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill)
            for role in ["weir_writer", "weir_directory", "weir_reader", "weir_jobs", "weir_admin", "weir_reports"] {
                for question in [
                    "SELECT answer_body FROM idempotency_keys", "SELECT answer_fields FROM idempotency_keys",
                    "SELECT fingerprint FROM idempotency_keys",
                    "INSERT INTO idempotency_keys (tenant_id) VALUES (gen_random_uuid())", "TRUNCATE idempotency_keys",
                    "UPDATE idempotency_keys SET request_id = gen_random_uuid()",
                ] {
                    try await #expect(harness.sqlState(of: question, as: role) == "42501", "\(role): \(question)")
                }
                let claim =
                    "SELECT claim_idempotency_key(gen_random_uuid(), 'k', decode(repeat('07', 32), 'hex'), gen_random_uuid(), gen_random_uuid(), 1)"
                try await #expect(
                    harness.sqlState(of: claim, as: role) == (role == "weir_writer" ? nil : "42501"), "\(role)")
                try await #expect(
                    harness.sqlState(of: "SELECT remove_expired_idempotency_keys(1)", as: role)
                        == (role == "weir_jobs" ? nil : "42501"), "\(role)")
            }
            try await harness.run("DELETE FROM idempotency_keys WHERE tenant_id = tenant_id", as: "weir_writer")
            try await #expect(
                harness.ask("SELECT DISTINCT state FROM idempotency_keys") == ["answered"],
                "the writer gives claims back and cannot make an answer disappear")
        }
    }

    @Test(
        "the table refuses a row that is half an answer",
        arguments: ["state = 'answered'", "answer_body = ''", "http_status = 200", "attempt = 0", "fingerprint = ''"])
    func halfAnswers(change: String) async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.fill)
            let state = try await harness.sqlState(
                of: "UPDATE idempotency_keys SET \(change) WHERE state = 'claimed'")
            #expect(state == "23514")
        }
    }
}
