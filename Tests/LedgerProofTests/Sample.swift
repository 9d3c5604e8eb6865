import Domain
import Testing

@testable import LedgerProof

/// Entries, keys and exports that depend on nothing but their numbers.
enum Sample {
    static let now = Timestamp(microsecondsSince1970: 1_772_000_000_123_456)

    static func tenant(_ number: UInt64) -> TenantID {
        TenantID(high: 0x0190_0000_0000_7000, low: 0x8000 << 48 | number)
    }

    static func signer(byte: UInt8 = 1) throws -> HeadSigner {
        try #require(HeadSigner(seed: [UInt8](repeating: byte, count: 32)))
    }

    static func key(_ signer: HeadSigner) -> PublicSigningKey {
        PublicSigningKey(
            id: signer.id, publicKey: signer.publicKey, state: .active, createdAt: now, retiredAt: nil)
    }

    static func entry(_ number: Int, tenant: UInt64) -> LedgerEntry {
        let id = RequestID(high: 0x0190_0000_0001_7000, low: 0x9000 << 48 | UInt64(number))
        return LedgerEntry(
            entryID: id, tenantID: self.tenant(tenant), userID: number % 3 == 0 ? UserID(high: 1, low: 2) : nil,
            keyID: KeyID(high: 3, low: tenant), requestID: id, kind: "usage",
            model: number % 5 == 0 ? "größe" : "iris", modelVersion: "v\(number % 2)",
            tierVersionID: TierVersionID(high: 5, low: 6), leaseID: number % 2 == 0 ? LeaseID(high: 7, low: 8) : nil,
            requests: 1, inputTokens: Int64(number), cachedInputTokens: Int64(number / 2),
            outputTokens: Int64(number * 3), tokenSource: "worker",
            occurredAt: Timestamp(microsecondsSince1970: now.microsecondsSince1970 + Int64(number)),
            postedAt: Timestamp(microsecondsSince1970: now.microsecondsSince1970 + Int64(number) + 7),
            servedInputTokens: 0, servedOutputTokens: 0, tags: number % 4 == 0 ? "team-\(number % 7),prod" : nil)
    }

    static func auditRow(_ number: Int) -> AuditRow {
        AuditRow(
            id: AuditID(high: 0x0190_0000_0002_7000, low: 0xA000 << 48 | UInt64(number)), at: now, actor: "key abc",
            action: "tenant.change", subjectType: "tenant", subjectID: "x\(number)",
            tenantID: number % 2 == 0 ? nil : tenant(1), before: number % 3 == 0 ? nil : "{\"a\": \"\\\"\n\"}",
            after: "{\"a\": \(number)}")
    }

    /// A sealed ledger with the head interval of the product, in rounds of the given sizes.
    struct Book: Sendable {
        var entries: [Sealed<LedgerEntry>] = []
        var heads: [SignedHead] = []
        let chain: ProofChain
        let signer: HeadSigner

        init(rounds: [Int], tenant: UInt64 = 1, signer: HeadSigner) throws {
            self.signer = signer
            chain = .ledger(Sample.tenant(tenant))
            for round in rounds { try add(round, tenant: tenant) }
        }

        mutating func add(_ count: Int, tenant: UInt64) throws {
            let tip = entries.last.map { [chain: ChainSealer<LedgerEntry>.Tip(sequence: $0.sequence, hash: $0.hash)] }
            var sealer = ChainSealer<LedgerEntry>(tips: tip ?? [:], signer: signer, at: Sample.now)
            for number in 1...count { try sealer.add(Sample.entry(entries.count + number, tenant: tenant), to: chain) }
            try sealer.finish()
            entries += sealer.sealed.map(\.entry)
            heads += sealer.heads
        }

        /// The lines of an export.
        var lines: [String] {
            var lines = [text(ChainExport.first(LedgerEntry.self, chain, after: 0, hash: chain.origin))]
            lines += text(ChainExport.lines(ChainPage(entries: entries, heads: heads)))
                .split(separator: "\n").map(String.init)
            lines.append(text(ChainExport.last(count: Int64(entries.count), head: heads.last)))
            return lines
        }

        private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
    }

    static func verify(
        _ lines: [String], keys: KeySet, after: Int64 = 0, head: SignedHead? = nil
    ) throws(ExportFault) -> ExportVerifier<LedgerEntry>.Report {
        var verifier = ExportVerifier<LedgerEntry>(keys: keys, after: after, expecting: head)
        for line in lines { try verifier.take(Array(line.utf8)) }
        return try verifier.finish()
    }
}
