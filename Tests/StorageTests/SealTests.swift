import Domain
import LedgerProof
import PostgresDriver
import Storage
import Testing

@Suite("the sealer")
struct SealTests {
    private static let pepper = [UInt8](repeating: 7, count: 32)

    /// What one process has: its keys and its sealer.
    private struct Process {
        let store: SigningKeyStore
        let ring: SigningKeyRing
        let sealer: SealStore

        init(_ directory: PostgresPool, _ jobs: PostgresPool, pepper: [UInt8] = SealTests.pepper) {
            store = SigningKeyStore(directory: directory, jobs: jobs, pepper: pepper)
            ring = SigningKeyRing(directory: store, time: MachineTime())
            sealer = SealStore(pool: jobs, ring: ring)
        }
    }

    private func withProcess(_ body: (StorageHarness, Process, Process) async throws -> Void) async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_directory") { directory in
                try await harness.withPool("weir_jobs") { jobs in
                    try await body(harness, Process(directory, jobs), Process(directory, jobs))
                }
            }
        }
    }

    /// A transaction in any database of the server holds the sealer back, and the tests beside this one have some.
    private func sealAll(_ harness: StorageHarness, _ process: Process, limit: Int = 5_000) async throws {
        try await eventually("all of it is sealed") {
            _ = try await process.sealer.sealLedger(limit: limit)
            return try await harness.ask("SELECT (SELECT count(*) FROM ledger) = (SELECT count(*) FROM sealed_entries)")
                == ["true"]
        }
    }

    /// Follows what is sealed of a tenant to its last head.
    private func verify(_ harness: StorageHarness, _ process: Process, _ tenant: TenantID) async throws -> Int64 {
        try await harness.withPool("weir_reader") { pool in
            let records = ProofStore(pool: pool)
            let head = try #require(try await records.head(tenantID: tenant))
            let page = try await records.entries(after: 0, through: head.sequence, limit: 10_000, tenantID: tenant)
            try await process.ring.reload()
            var verifier = ExportVerifier<LedgerEntry>(keys: KeySet(process.ring.publicKeys), expecting: head)
            try verifier.take(
                ChainExport.first(LedgerEntry.self, .ledger(tenant), after: 0, hash: ProofChain.ledger(tenant).origin))
            for line in ChainExport.lines(page).split(separator: 0x0A) { try verifier.take(Array(line)) }
            try verifier.take(ChainExport.last(count: Int64(page.entries.count), head: head))
            return try verifier.finish().entries
        }
    }

    @Test("every entry gets its place, in rounds of any size, by two processes at once")
    func places() async throws {
        try await withProcess { harness, one, other in
            for size in [1, 300, 7] {
                _ = try await harness.settle(
                    (0..<size).map { number in
                        number % 3 == 0
                            ? Seed.settlement() : Seed.settlement(tenant: Seed.tenantB, key: Seed.keyB)
                    })
                // Both at the same time: one of them is told that the other is at it, or finds nothing.
                async let first = one.sealer.sealLedger(limit: 50)
                async let second = other.sealer.sealLedger(limit: 3)
                _ = try await (first, second)
            }
            try await sealAll(harness, one, limit: 40)
            var total: Int64 = 0
            for tenant in [Seed.tenantA, Seed.tenantB] { total += try await verify(harness, other, tenant) }
            #expect(total == 308)
            let round = try #require(try await one.sealer.sealLedger(limit: 10))
            #expect(round.entries == 0 && round.heads == 0 && round.unsealedSeconds == 0)
            try await #expect(harness.ask("SELECT count(*) FROM signing_keys") == ["1"])
        }
    }

    @Test("what commits late is sealed, although later transactions are in the chain already or wait for it")
    func lateCommit() async throws {
        try await withProcess { harness, process, _ in
            let late = Seed.settlement()
            let session = try SessionInHand(harness.configuration("weir_writer"))
            try await session.run { session in
                try session.begin()
                _ = try SettlementText.write([late], gateway: Seed.gateway, on: session)
            }
            _ = try await harness.settle((0..<5).map { _ in Seed.settlement() }, gateway: Seed.otherGateway)
            let round = try #require(try await process.sealer.sealLedger(limit: 100))
            #expect(round.entries == 0)
            #expect(round.unsealedSeconds >= 0)
            try await session.run { session in
                try session.commit()
                session.close()
            }
            try await sealAll(harness, process)
            try await #expect(verify(harness, process, Seed.tenantA) == 6)
        }
    }

    @Test("after a rotation the other process signs with the new key, and never with the old one")
    func rotation() async throws {
        try await withProcess { harness, process, _ in
            _ = try await harness.settle([Seed.settlement()])
            try await sealAll(harness, process)
            let old = try #require(process.ring.signer?.id)
            try await harness.withPool("weir_admin") { admin in
                try await harness.withPool("weir_reports") { reports in
                    let store = AdministrationStore(
                        pool: admin, reports: reports, pepper: Self.pepper, time: MachineTime())
                    let fresh = try await store.rotateSigningKey(isCompromised: false, by: .system)
                    #expect(fresh.id != old)
                    let keys = try await store.signingKeys()
                    #expect(keys.map(\.state) == [.active, .retired])
                    _ = try await harness.settle([Seed.settlement()])
                    // This process has heard of nothing.
                    #expect(process.ring.signer?.id == old)
                    try await sealAll(harness, process)
                    try await #expect(
                        harness.ask("SELECT key_id FROM ledger_heads ORDER BY seq")
                            == [old.description, fresh.id.description])
                    try await #expect(verify(harness, process, Seed.tenantA) == 2)
                    let found = try await store.audit(
                        AuditQuery(page: PageRequest(limit: 5), action: "signing_key.rotate"))
                    #expect(found.elements.count == 1)
                    // A third one, because somebody may have the second: what it signed is left out, and signed anew.
                    let third = try await store.rotateSigningKey(isCompromised: true, by: .system)
                    try await process.ring.reload()
                    _ = try await process.sealer.sealLedger(limit: 10)
                    try await harness.withPool("weir_reader") { pool in
                        let head = try await ProofStore(pool: pool).head(tenantID: Seed.tenantA)
                        #expect(head?.keyID == third.id)
                        #expect(head?.sequence == 2)
                    }
                    try await #expect(verify(harness, process, Seed.tenantA) == 2)
                    #expect(try await process.sealer.sealLedger(limit: 10)?.heads == 0)
                }
            }
        }
    }

    @Test("under another pepper nothing is signed, and it is said why")
    func otherPepper() async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_directory") { directory in
                try await harness.withPool("weir_jobs") { jobs in
                    try await Process(directory, jobs).ring.reload()
                    let wrong = Process(directory, jobs, pepper: [UInt8](repeating: 8, count: 32))
                    try await wrong.ring.reload()
                    #expect(wrong.ring.signer == nil)
                    #expect(wrong.ring.publicKeys.count == 1)
                    let error = await #expect(throws: StoreUnavailable.self) {
                        try await wrong.sealer.sealLedger(limit: 10)
                    }
                    #expect(error?.cause.contains("pepper") == true)
                }
            }
        }
    }

    @Test("the audit log is one chain, and what is sealed stays as it is")
    func audit() async throws {
        try await withProcess { harness, process, _ in
            try await harness.withPool("weir_admin") { admin in
                try await harness.withPool("weir_reports") { reports in
                    let store = AdministrationStore(
                        pool: admin, reports: reports, pepper: Self.pepper, time: MachineTime())
                    for name in ["One", "Two", "Three"] {
                        _ = try await store.changeTenant(Seed.tenantA, TenantChange(name: name), by: .system)
                    }
                    try await eventually("all of it is sealed") {
                        _ = try await process.sealer.sealAudit(limit: 2)
                        return try await harness.ask("SELECT count(*) FROM sealed_audit") == ["3"]
                    }
                    let head = try #require(try await store.auditHead())
                    let page = try await store.auditPage(after: 0, through: head.sequence, limit: 100)
                    var verifier = ChainVerifier<AuditRow>(.audit, keys: KeySet(process.ring.publicKeys))
                    for sealed in page.entries { try verifier.take(sealed) }
                    try verifier.take(head)
                    #expect(verifier.isProved)
                    #expect(page.entries.map(\.entry.tenantID) == Array(repeating: Seed.tenantA, count: 3))
                }
            }
            for table in ["sealed_entries", "ledger_heads", "sealed_audit", "audit_heads", "signing_keys"] {
                try await #expect(harness.sqlState(of: "DELETE FROM \(table)") == "42501", "\(table)")
            }
            try await #expect(
                harness.sqlState(of: "UPDATE signing_keys SET public_key = decode(repeat('00', 32), 'hex')") == "23514")
        }
    }

    @Test("a tenant sees its own chain alone")
    func isolation() async throws {
        try await withProcess { harness, process, _ in
            _ = try await harness.settle([Seed.settlement(), Seed.settlement(tenant: Seed.tenantB, key: Seed.keyB)])
            try await sealAll(harness, process)
            for table in ["sealed_entries", "ledger_heads"] {
                try await #expect(harness.ask("SELECT tenant_id FROM \(table)", as: "weir_reader") == [])
                try await #expect(
                    harness.ask("SELECT tenant_id FROM \(table)", as: "weir_reader", tenant: Seed.tenantB)
                        == [Seed.tenantB.description])
            }
            try await #expect(
                harness.sqlState(of: "SELECT sealed_seed FROM signing_keys", as: "weir_reader") == "42501")
            try await #expect(harness.sqlState(of: "SELECT sealed_seed FROM signing_keys", as: "weir_admin") == "42501")
            let foreign = try await harness.ask(
                "SELECT entry_id FROM sealed_entries WHERE tenant_id = '\(Seed.tenantA)'")
            try await harness.withPool("weir_reader") { pool in
                let id = try #require(RequestID(foreign[0]))
                guard case .unknown = try await ProofStore(pool: pool).proof(of: id, tenantID: Seed.tenantB) else {
                    Issue.record("another tenant's entry was proved")
                    return
                }
            }
        }
    }

    @Test("a writer makes receipts of what it has committed, and of nothing that was refused")
    func receipts() async throws {
        try await withProcess { harness, process, _ in
            try await process.ring.reload()
            var options = SettlementWriter.Options()
            options.waitMilliseconds = 120_000
            let writer = SettlementWriter(
                configuration: try harness.configuration("weir_writer"), gatewayID: Seed.gateway,
                options: options, time: MachineTime(), logger: StorageHarness.logger,
                receipts: process.ring)
            let boxes = (0..<40).map { _ in ReceiptBox(.full) }
            let (outcomes, lane) = (Outcomes(), CountingLane())
            // Every fourth is on a lease that nobody has.
            let settlements = boxes.enumerated().map { number, box in
                Seed.settlement(lease: number % 4 == 0 ? Seed.newLeaseID() : nil, receipt: box)
            }
            for settlement in settlements { outcomes.submit(settlement, to: writer, on: lane) }
            try writer.start()
            try await eventually("all are told") { outcomes.results.count == 40 }
            await writer.shutdown(graceMilliseconds: 20_000)
            let keys = KeySet(process.ring.publicKeys)
            for (settlement, box) in zip(settlements, boxes) {
                guard outcomes.results[settlement.requestID] == .committed else {
                    #expect(box.text == nil)
                    continue
                }
                let receipt = try Receipt(text: String(decoding: try #require(box.text), as: UTF8.self))
                try receipt.verify(keys: keys)
                #expect(receipt.fields?.entryID == settlement.requestID)
                #expect(receipt.count == 30)
            }
            #expect(outcomes.count(.committed) == 30)
            try await sealAll(harness, process)
            try await harness.withPool("weir_reader") { pool in
                let page = try await ProofStore(pool: pool).entries(
                    after: 0, through: 100, limit: 100, tenantID: Seed.tenantA)
                let entries = Dictionary(uniqueKeysWithValues: page.entries.map { ($0.entry.entryID, $0.entry) })
                for (settlement, box) in zip(settlements, boxes) {
                    guard let text = box.text else { continue }
                    let receipt = try Receipt(text: String(decoding: text, as: UTF8.self))
                    try receipt.verify(keys: keys, entry: entries[settlement.requestID])
                }
            }
        }
    }
}
