import Domain
import Testing

@testable import LedgerProof

/// One row of a chain in the tables that was changed is one finding, of that row.
@Suite("audits of a chain as it is kept")
struct AuditTests {
    private static func rows() throws -> (Sample.Book, [SealRow<LedgerEntry>]) {
        let book = try Sample.Book(rounds: [40], signer: try Sample.signer())
        return (
            book,
            book.entries.map {
                SealRow(sequence: $0.sequence, entryName: $0.entry.entryName, entry: $0.entry, hash: $0.hash)
            }
        )
    }

    private static func findings(
        _ rows: [SealRow<LedgerEntry>], of book: Sample.Book, head: ProofHash? = nil
    ) -> [ChainFinding] {
        var audit = ChainAudit<LedgerEntry>(book.chain, after: 0, hash: nil)
        var findings: [ChainFinding] = []
        for row in rows { findings += audit.take(row) }
        return findings + audit.end(head: head)
    }

    private static func changed(
        _ row: SealRow<LedgerEntry>, entry: LedgerEntry?, hash: ProofHash? = nil
    ) -> SealRow<LedgerEntry> {
        SealRow(sequence: row.sequence, entryName: row.entryName, entry: entry, hash: hash ?? row.hash)
    }

    @Test("a chain that nobody touched has none")
    func clean() throws {
        let (book, rows) = try Self.rows()
        #expect(Self.findings(rows, of: book).isEmpty)
    }

    @Test("an entry that was changed or taken away is the only finding", arguments: [0, 1, 17, 38, 39])
    func entries(index: Int) throws {
        var (book, rows) = try Self.rows()
        var entry = book.entries[index].entry
        entry.cachedInputTokens += 1
        let row = rows[index]
        rows[index] = Self.changed(row, entry: entry)
        let found = Self.findings(rows, of: book, head: row.hash)
        guard found.count == 1, case .entryDiffers(let name, let expected, _) = found[0] else {
            Issue.record("\(found)")
            return
        }
        #expect(name == row.entryName && expected == row.hash)
        rows[index] = Self.changed(row, entry: nil)
        #expect(
            Self.findings(rows, of: book) == [.entryMissing(entryName: row.entryName, sequence: row.sequence)])
    }

    @Test("a seal that was changed or taken away is the only finding", arguments: [0, 1, 17, 38, 39])
    func seals(index: Int) throws {
        var (book, rows) = try Self.rows()
        let row = rows[index]
        let other = ProofHash(1, 2, 3, 4)
        rows[index] = Self.changed(row, entry: row.entry, hash: other)
        // At the tip the head tells which of the two was changed.
        #expect(
            Self.findings(rows, of: book, head: row.hash)
                == [.sealDiffers(sequence: row.sequence, expected: row.hash, found: other)])
        guard index < 39 else { return }
        rows.remove(at: index)
        #expect(Self.findings(rows, of: book) == [.sealMissing(sequence: row.sequence)])
    }

    @Test("two neighbours that were changed are both found")
    func neighbours() throws {
        var (book, rows) = try Self.rows()
        for index in [7, 8] {
            var entry = book.entries[index].entry
            entry.model = "other"
            rows[index] = Self.changed(rows[index], entry: entry)
        }
        let names = Self.findings(rows, of: book).compactMap { finding in
            if case .entryDiffers(let name, _, _) = finding { name } else { nil }
        }
        #expect(names == [rows[7].entryName, rows[8].entryName])
    }
}
