internal import Domain
internal import LedgerProof
internal import PostgresDriver

/// Hashes the entries of the window anew and holds them against their seals, the seals against each other, and the heads against both. Reads
/// page by page, so memory does not follow the window.
struct SealComparison {
    private let connection: PostgresConnection
    private let scope: ReconciliationScope
    private let limit: Int
    private let keys: KeySet

    private static let pageLimit: Int64 = 1_000

    init(_ scope: ReconciliationScope, limit: Int, on connection: PostgresConnection) async throws {
        self.scope = scope
        self.limit = limit
        self.connection = connection
        // What a key signed that somebody else may have is no proof, but the row still has to be what was signed.
        keys = KeySet(
            try await connection.execute(ListSigningKeys()).map { key in
                PublicSigningKey(
                    id: key.id, publicKey: key.publicKey, state: key.state == .compromised ? .retired : key.state,
                    createdAt: key.createdAt, retiredAt: key.retiredAt)
            })
    }

    func run(into differences: inout BookDifferences) async throws {
        var tenant = TenantID(high: 0, low: 0)
        while true {
            let page = try await connection.execute(
                FindSealedStretches(scope: scope, after: tenant, limit: Self.pageLimit))
            for stretch in page { try await follow(stretch, into: &differences) }
            guard let last = page.last, page.count == Self.pageLimit else { break }
            tenant = last.tenantID
        }
        var entry = RequestID(high: 0, low: 0)
        while true {
            let page = try await connection.execute(
                FindStraySeals(scope: scope, after: entry, limit: Self.pageLimit))
            for stray in page {
                try await follow(
                    SealedStretch(tenantID: stray.tenantID, first: stray.sequence, last: stray.sequence),
                    into: &differences)
            }
            guard let last = page.last, page.count == Self.pageLimit else { break }
            entry = last.entryID
        }
    }

    private func follow(_ stretch: SealedStretch, into differences: inout BookDifferences) async throws {
        let before = stretch.first - 1
        let hash =
            before > 0
            ? try await connection.execute(ReadChainHash(tenantID: stretch.tenantID, sequence: before)).first : nil
        if before > 0, hash == nil { note([.sealMissing(sequence: before)], stretch.tenantID, &differences) }
        var audit = ChainAudit<LedgerEntry>(.ledger(stretch.tenantID), after: before, hash: hash)
        var reached = before
        while reached < stretch.last {
            let rows = try await rows(of: stretch.tenantID, after: reached, through: stretch.last)
            guard let last = rows.last else { break }
            for row in rows { note(audit.take(row), stretch.tenantID, &differences) }
            reached = last.sequence
        }
        // The seal behind the last one tells of two that do not agree which was changed.
        let next = try await rows(of: stretch.tenantID, after: reached, through: reached + 1)
        var endsChain = next.isEmpty
        if let next = next.first {
            if audit.isOpen { note(audit.take(next), stretch.tenantID, &differences) }
        } else if try await connection.execute(
            HasHeadBehind(tenantID: stretch.tenantID, sequence: reached)
        ).first == true {
            note([.sealMissing(sequence: reached + 1)], stretch.tenantID, &differences)
            endsChain = false
        }
        try await checkHeads(
            of: stretch, &audit, isTip: next.isEmpty, endsChain: endsChain, into: &differences)
    }

    private func rows(
        of tenantID: TenantID, after: Int64, through end: Int64
    ) async throws -> [SealRow<LedgerEntry>] {
        let seals = try await connection.execute(
            ReadSeals(tenantID: tenantID, after: after, end: end, limit: Self.pageLimit))
        guard let last = seals.last else { return [] }
        let entries = Dictionary(
            try await connection.execute(
                ReadSealedEntries(tenantID: tenantID, after: after, end: last.sequence, limit: Self.pageLimit)
            ).map { ($0.sequence, $0.entry) }
        ) { first, _ in first }
        return seals.map {
            SealRow(
                sequence: $0.sequence, entryName: $0.entryID.description, entry: entries[$0.sequence], hash: $0.hash)
        }
    }

    private func checkHeads(
        of stretch: SealedStretch, _ audit: inout ChainAudit<LedgerEntry>, isTip: Bool, endsChain: Bool,
        into differences: inout BookDifferences
    ) async throws {
        var due = HeadPlaces(stretch, endsChain: endsChain)
        var (reached, key) = (stretch.first - 1, "g")  // behind every key of that place: they are hexadecimal digits
        while true {
            let page = try await connection.execute(
                ReadHeadsOfSeals(
                    tenantID: stretch.tenantID, after: reached, afterKey: key, end: stretch.last,
                    limit: Self.pageLimit))
            for (row, seal) in page {
                for place in due.passed(by: row.sequence) { noteMissing(place, stretch.tenantID, &differences) }
                if isTip, row.sequence == stretch.last {
                    note(audit.end(head: row.hash), stretch.tenantID, &differences)
                }
                check(row, audit.corrected[row.sequence] ?? seal, stretch.tenantID, into: &differences)
            }
            guard let last = page.last?.head, page.count == Self.pageLimit else { break }
            (reached, key) = (last.sequence, last.keyID.description)
        }
        for place in due.passed(by: nil) { noteMissing(place, stretch.tenantID, &differences) }
        note(audit.end(head: nil), stretch.tenantID, &differences)
    }

    private func noteMissing(_ place: Int64, _ tenantID: TenantID, _ differences: inout BookDifferences) {
        differences.note(
            BookDifference(kind: "head_missing", id: "\(tenantID)/\(place)", expected: "a head", found: ""),
            limit: limit)
    }

    private func check(
        _ row: HeadRow, _ seal: ProofHash?, _ tenantID: TenantID, into differences: inout BookDifferences
    ) {
        let id = "\(tenantID)/\(row.sequence)/\(row.keyID)"
        do throws(ProofFailure) {
            try keys.check(row.head(of: .ledger(tenantID)))
        } catch {
            return differences.note(
                BookDifference(
                    kind: "head_differs_from_chain", id: id, expected: "what was signed", found: error.reason),
                limit: limit)
        }
        guard let seal, seal != row.hash else { return }
        differences.note(
            BookDifference(
                kind: "head_differs_from_chain", id: id, expected: row.hash.hexadecimal, found: seal.hexadecimal),
            limit: limit)
    }

    private func note(
        _ findings: [ChainFinding], _ tenantID: TenantID, _ differences: inout BookDifferences
    ) {
        for finding in findings {
            let difference =
                switch finding {
                case .entryDiffers(let name, let expected, let found):
                    BookDifference(
                        kind: "entry_differs_from_seal", id: "led_\(name)", expected: expected.hexadecimal,
                        found: found.hexadecimal)
                case .entryMissing(let name, let sequence):
                    BookDifference(
                        kind: "sealed_entry_missing", id: "led_\(name)", expected: "\(tenantID)/\(sequence)", found: "")
                case .sealDiffers(let sequence, let expected, let found):
                    BookDifference(
                        kind: "seal_differs_from_chain", id: "\(tenantID)/\(sequence)", expected: expected.hexadecimal,
                        found: found.hexadecimal)
                case .sealMissing(let sequence):
                    BookDifference(
                        kind: "seal_missing", id: "\(tenantID)/\(sequence)", expected: "a seal", found: "")
                }
            differences.note(difference, limit: limit)
        }
    }
}

/// The places of a stretch that have to have a head: every so many entries, and the chain's last one. Without them what is behind could be made up.
private struct HeadPlaces {
    private static let interval = ChainSealer<LedgerEntry>.headInterval

    private var next: Int64
    private let last: Int64
    private let endsChain: Bool

    init(_ stretch: SealedStretch, endsChain: Bool) {
        next = (stretch.first + Self.interval - 1) / Self.interval * Self.interval
        last = stretch.last
        self.endsChain = endsChain
        if next > last, endsChain { next = last }
    }

    /// - Parameter head: where a head was found, in order; `nil` behind the last one.
    /// - Returns: the places before it that had to have one.
    mutating func passed(by head: Int64?) -> [Int64] {
        var missing: [Int64] = []
        while next <= last, head.map({ next <= $0 }) ?? true {
            if next != head { missing.append(next) }
            let following = next / Self.interval * Self.interval + Self.interval
            next = following > last && endsChain && next < last ? last : following
        }
        return missing
    }
}
