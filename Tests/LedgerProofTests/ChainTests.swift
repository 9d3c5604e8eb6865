import Domain
import Testing

@testable import LedgerProof

@Suite("chains and their heads")
struct ChainTests {
    @Test("the forms are those of the documentation")
    func knownForms() {
        let entry = Sample.entry(1, tenant: 7)
        // Computed by an implementation of its own from docs/api/ledger-proof.md.
        #expect(entry.leaf.hexadecimal == "a881f9f16041dff44608f52c74147c29ffd856daac4d95fac5e4aadd64461b6f")
        #expect(
            Sample.entry(4, tenant: 7).leaf.hexadecimal
                == "674e2945e237e7e04525e2395937676f3b6d49314a8e6cbdfe2a33146a744f68")
        let chain = ProofChain.ledger(entry.tenantID)
        #expect(chain.origin.hexadecimal == "3f7aebeb4f9358703c6aa5214f946645d17382a09c6ae5188645d28082838130")
        #expect(
            chain.link(chain.origin, sequence: 1, leaf: entry.leaf).hexadecimal
                == "f5e48c2965d8c46c8299c2e573514834528227e51eb641770dbef169657c5294")
        #expect(
            ReceiptFields(entry).leaf.hexadecimal == "ddb275024e20fb5e5f980f92f832fef92045ea343d42beb5246b4e978bea304a")
        #expect(
            ProofChain.audit.origin.hexadecimal == "66a79b23ba92c0ea383b525ea8841388fbd6371a9d858765404c02bb5d4cef0b")
        #expect(
            Sample.auditRow(1).leaf.hexadecimal == "a57f02743457cf19dc6ccc69c95b4ce8f32b77e3ead6e4771377dab143628489")
    }

    @Test("a sealer that stops anywhere goes on as one that did not")
    func goesOn() throws {
        let signer = try Sample.signer()
        let chain = ProofChain.ledger(Sample.tenant(1))
        let entries = (1...700).map { Sample.entry($0, tenant: 1) }
        var whole = ChainSealer<LedgerEntry>(tips: [:], signer: signer, at: Sample.now)
        for entry in entries { try whole.add(entry, to: chain) }
        try whole.finish()
        var parts: [Sealed<LedgerEntry>] = []
        var tips: [ProofChain: ChainSealer<LedgerEntry>.Tip] = [:]
        for part in [entries[..<3], entries[3..<256], entries[256..<600], entries[600...]] {
            var sealer = ChainSealer<LedgerEntry>(tips: tips, signer: signer, at: Sample.now)
            for entry in part { try sealer.add(entry, to: chain) }
            try sealer.finish()
            parts += sealer.sealed.map(\.entry)
            #expect(sealer.heads.last?.sequence == parts.last?.sequence)
            if let last = parts.last { tips[chain] = .init(sequence: last.sequence, hash: last.hash) }
        }
        #expect(parts.map(\.hash) == whole.sealed.map(\.entry.hash))
        #expect(whole.heads.map(\.sequence) == [256, 512, 700])
    }

    @Test("chains of several tenants in one round do not mix")
    func severalTenants() throws {
        var sealer = ChainSealer<LedgerEntry>(tips: [:], signer: try Sample.signer(), at: Sample.now)
        for number in 1...90 {
            let entry = Sample.entry(number, tenant: UInt64(number % 3))
            try sealer.add(entry, to: .ledger(entry.tenantID))
        }
        try sealer.finish()
        #expect(sealer.heads.count == 3)
        for tenant in UInt64(0)...2 {
            let own = sealer.sealed.filter { $0.chain == .ledger(Sample.tenant(tenant)) }
            #expect(own.map(\.entry.sequence) == Array(1...30))
            #expect(own.allSatisfy { $0.entry.entry.tenantID == Sample.tenant(tenant) })
        }
    }

    @Test("no two entries that differ in one field have the same leaf, whatever stands where the fields meet")
    func unambiguous() {
        var one = Sample.entry(1, tenant: 1)
        var other = one
        one.model = "ab"
        one.modelVersion = "c"
        other.model = "a"
        other.modelVersion = "bc"
        #expect(one.leaf != other.leaf)
        other = one
        one.userID = nil
        other.userID = UserID(high: 0, low: 0)
        #expect(one.leaf != other.leaf)
    }

    @Test("a head holds only with its key, unchanged, in the key's life, and not with a compromised one")
    func heads() throws {
        let signer = try Sample.signer()
        let key = Sample.key(signer)
        let head = try #require(
            signer.head(of: .audit, sequence: 5, hash: Sample.entry(1, tenant: 1).leaf, at: Sample.now))
        #expect(throws: Never.self) { try KeySet([key]).check(head) }
        #expect(throws: ProofFailure.self) { try KeySet([]).check(head) }
        let other = try Sample.signer(byte: 9)
        #expect(throws: ProofFailure.self) { try KeySet([Sample.key(other)]).check(head) }
        // Another key's name for the same key, and the same name for another key.
        let renamed = PublicSigningKey(
            id: signer.id, publicKey: other.publicKey, state: .active, createdAt: Sample.now, retiredAt: nil)
        #expect(throws: ProofFailure.self) { try KeySet([renamed]).check(head) }
        func aged(_ state: PublicSigningKey.State, retired: Timestamp?) -> PublicSigningKey {
            PublicSigningKey(
                id: signer.id, publicKey: signer.publicKey, state: state, createdAt: Sample.now, retiredAt: retired)
        }
        let later = Sample.now.advanced(byMilliseconds: 120_000)
        #expect(throws: Never.self) { try KeySet([aged(.retired, retired: later)]).check(head) }
        #expect(throws: ProofFailure.self) { try KeySet([aged(.compromised, retired: later)]).check(head) }
        let late = try #require(
            signer.head(
                of: .audit, sequence: 5, hash: head.hash, at: later.advanced(byMilliseconds: 61_000)))
        #expect(throws: ProofFailure.self) { try KeySet([aged(.retired, retired: later)]).check(late) }
        for place in 0..<64 {
            var signature = head.signature
            signature[place] ^= 1
            let changed = SignedHead(
                chain: head.chain, sequence: head.sequence, hash: head.hash, signedAt: head.signedAt, keyID: head.keyID,
                signature: signature)
            #expect(throws: ProofFailure.self) { try KeySet([key]).check(changed) }
        }
    }
}
