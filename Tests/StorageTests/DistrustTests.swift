import Domain
import LedgerProof
import PostgresDriver
import Storage
import Testing

@Suite("keys that somebody else may have")
struct DistrustTests {
    private static let pepper = [UInt8](repeating: 7, count: 32)

    private struct Stage {
        let harness: StorageHarness
        let ring: SigningKeyRing
        let sealer: SealStore
        let administration: AdministrationStore
        let proofs: ProofStore

        func sealAll() async throws {
            try await eventually("all of it is sealed") {
                _ = try await sealer.sealLedger(limit: 5_000)
                return try await harness.ask(
                    "SELECT (SELECT count(*) FROM ledger) = (SELECT count(*) FROM sealed_entries)") == ["true"]
            }
        }

        func proof(at sequence: Int) async throws -> EntryProof? {
            let ids = try await harness.ask("SELECT entry_id FROM sealed_entries WHERE seq = \(sequence)")
            let id = try #require(ids.first.flatMap { RequestID($0) })
            guard case .proved(let proof) = try await proofs.proof(of: id, tenantID: Seed.tenantA) else { return nil }
            return proof
        }
    }

    private func with(_ body: (Stage) async throws -> Void) async throws {
        try await StorageHarness.with { harness in
            try await harness.withPool("weir_directory") { directory in
                try await harness.withPool("weir_jobs") { jobs in
                    try await harness.withPool("weir_admin") { admin in
                        try await harness.withPool("weir_reports") { reports in
                            try await harness.withPool("weir_reader") { reader in
                                let ring = SigningKeyRing(
                                    directory: SigningKeyStore(directory: directory, jobs: jobs, pepper: Self.pepper),
                                    time: MachineTime())
                                try await body(
                                    Stage(
                                        harness: harness, ring: ring, sealer: SealStore(pool: jobs, ring: ring),
                                        administration: AdministrationStore(
                                            pool: admin, reports: reports, pepper: Self.pepper, time: MachineTime()),
                                        proofs: ProofStore(pool: reader)))
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("of a long ledger heads are signed anew where proofs need them, so that a proof stays short")
    func longLedger() async throws {
        try await with { stage in
            for _ in 0..<11 { _ = try await stage.harness.settle((0..<500).map { _ in Seed.settlement() }) }
            try await stage.sealAll()
            let fresh = try await stage.administration.rotateSigningKey(isCompromised: true, by: .system)
            // Nobody has signed anew yet: the proof waits, and nothing is read up to the end.
            try await #expect(stage.proof(at: 10) == nil)
            try await stage.ring.reload()
            let round = try #require(try await stage.sealer.sealLedger(limit: 10))
            #expect(round.heads == 22)
            try await #expect(
                stage.harness.ask("SELECT seq FROM ledger_heads WHERE key_id = '\(fresh.id)' ORDER BY seq")
                    == (1...21).map { String($0 * 256) } + ["5500"])
            #expect(try await stage.sealer.sealLedger(limit: 10)?.heads == 0)
            let keys = KeySet(stage.ring.publicKeys)
            for sequence in [1, 10, 256, 257, 5_376, 5_377, 5_500] {
                let proof = try #require(try await stage.proof(at: sequence), "\(sequence)")
                #expect(proof.entries.count <= 256 && proof.head.keyID == fresh.id)
                try #require(ProofDocument(proof)).verify(keys: keys)
            }
        }
    }

    @Test("a key that was retired long ago can be distrusted, once, and the one in use is replaced")
    func retired() async throws {
        try await with { stage in
            _ = try await stage.harness.settle([Seed.settlement()])
            try await stage.sealAll()
            let first = try #require(stage.ring.signer?.id)
            let second = try await stage.administration.rotateSigningKey(isCompromised: false, by: .system)
            let distrusted = try await stage.administration.distrustSigningKey(first, by: .system)
            #expect(distrusted.state == .compromised && distrusted.id == first)
            try await stage.ring.reload()
            #expect(stage.ring.signer?.id == second.id)
            #expect(try await stage.sealer.sealLedger(limit: 10)?.heads == 1)
            #expect(try await stage.proofs.head(tenantID: Seed.tenantA)?.keyID == second.id)
            await #expect(throws: AdministrationFailure.self) {
                try await stage.administration.distrustSigningKey(first, by: .system)
            }
            await #expect(throws: AdministrationFailure.self) {
                try await stage.administration.distrustSigningKey(SigningKeyID(word: 5), by: .system)
            }
            _ = try await stage.administration.distrustSigningKey(second.id, by: .system)
            let states = try await stage.administration.signingKeys().map(\.state)
            #expect(states == [.active, .compromised, .compromised])
            let found = try await stage.administration.audit(
                AuditQuery(page: PageRequest(limit: 5), action: "signing_key.distrust"))
            #expect(found.elements.map(\.subjectID) == [first.description])
        }
    }
}
