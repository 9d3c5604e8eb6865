public import Domain

/// The lines of an export that are no entries and no heads. Each ends with a line feed where it is sent, and nowhere here.
public enum ChainExport {
    /// The first line: which chain it is, and behind which entry the export begins.
    public static func first<Entry: ExportedEntry>(
        _ type: Entry.Type, _ chain: ProofChain, after sequence: Int64, hash: ProofHash
    ) -> [UInt8] {
        var writer = ExportWriter(object: Entry.exportName)
        writer.member("format", Int64(1))
        if case .ledger(let tenant) = chain { writer.member("tenant_id", tenant) }
        writer.member("after", sequence)
        writer.member("previous_hash", hash)
        return writer.end()
    }

    /// The last line: an export without it is cut off.
    public static func last(count: Int64, head: SignedHead?) -> [UInt8] {
        var writer = ExportWriter(object: "trailer")
        writer.member("count", count)
        writer.member("head", json: head?.json)
        return writer.end()
    }

    /// One page of a chain as a list.
    public static func list<Entry: ExportedEntry>(
        _ page: ChainPage<Entry>, previousHash: ProofHash, hasMore: Bool
    ) -> [UInt8] {
        var writer = ExportWriter(object: "list", expecting: 1_024 * page.entries.count)
        writer.member("data", json: page.entries.map { Entry.line($0) })
        writer.member("heads", json: page.heads.map(\.json))
        writer.member("previous_hash", previousHash)
        writer.member("first_id", page.entries.first.map { String($0.sequence) })
        writer.member("last_id", page.entries.last.map { String($0.sequence) })
        writer.member("has_more", json: Array((hasMore ? "true" : "false").utf8))
        return writer.end()
    }

    /// One page of a chain as lines, each head behind the entry that it is on.
    public static func lines<Entry: ExportedEntry>(_ page: ChainPage<Entry>) -> [UInt8] {
        var bytes: [UInt8] = []
        var heads = page.heads[...]
        func feed(_ line: [UInt8]) {
            bytes.append(contentsOf: line)
            bytes.append(0x0A)
        }
        for sealed in page.entries {
            feed(Entry.line(sealed))
            while let head = heads.first, head.sequence <= sealed.sequence {
                if head.sequence == sealed.sequence { feed(head.json) }
                heads = heads.dropFirst()
            }
        }
        return bytes
    }
}

/// A fault of an export, with the line where it was noticed.
public struct ExportFault: Error, Sendable, CustomStringConvertible {
    public let line: Int64
    public let fault: ChainFault

    public init(line: Int64, fault: ChainFault) {
        self.line = line
        self.fault = fault
    }

    public var description: String { "line \(line): \(fault)" }
}

/// Verifies an export line by line in bounded memory.
public struct ExportVerifier<Entry: ExportedEntry>: Sendable {
    private let keys: KeySet
    private let expected: SignedHead?
    private let beginning: Int64
    private var chain: ChainVerifier<Entry>?
    private var lineCount: Int64 = 0
    private var isEnded = false
    private var hasMetExpected = false

    /// What was verified.
    public struct Report: Sendable {
        public let chain: ProofChain
        /// The entry that the first one follows; 0 for the beginning of the chain.
        public let after: Int64
        public let entries: Int64
        public let heads: Int64
        public let lastSequence: Int64
        public let lastHash: ProofHash
    }

    /// - Parameters:
    ///   - beginning: the entry behind which the export must begin: what is before it is not proved, so nobody but the caller may say so.
    ///   - expected: a head that is known from elsewhere; the export must contain the chain up to it.
    public init(keys: KeySet, after beginning: Int64 = 0, expecting expected: SignedHead? = nil) {
        self.keys = keys
        self.beginning = beginning
        self.expected = expected
    }

    public mutating func take(_ line: [UInt8]) throws(ExportFault) {
        lineCount += 1
        do throws(ChainFault) {
            try read(line)
        } catch {
            throw ExportFault(line: lineCount, fault: error)
        }
    }

    /// - Throws: where the export has no end, or does not reach the head that was expected.
    public func finish() throws(ExportFault) -> Report {
        guard let chain else { throw fault("there is nothing in it") }
        guard isEnded else { throw fault("the last line is missing: the export is cut off") }
        if let expected, !hasMetExpected {
            let reason =
                chain.sequence < expected.sequence
                ? "the export ends at \(chain.sequence), but the head that is known is at \(expected.sequence): entries are missing"
                : "the export begins behind the head that is known, at \(expected.sequence)"
            throw ExportFault(
                line: lineCount,
                fault: ChainFault(sequence: min(chain.sequence, expected.sequence) + 1, entry: nil, reason: reason))
        }
        return Report(
            chain: chain.chain, after: beginning, entries: chain.entryCount, heads: chain.headCount,
            lastSequence: chain.sequence,
            lastHash: chain.hash)
    }

    private func fault(_ reason: String) -> ExportFault {
        ExportFault(line: lineCount, fault: chain?.fault(reason) ?? ChainFault(sequence: 0, entry: nil, reason: reason))
    }

    private enum Line {
        case entry(Sealed<Entry>)
        case head(SignedHead)
        case last(count: Int64, SignedHead?)
    }

    private mutating func read(_ line: [UInt8]) throws(ChainFault) {
        guard var verifier = chain else {
            do throws(ProofFailure) {
                chain = try first(line)
            } catch {
                throw ChainFault(sequence: 0, entry: nil, reason: "the first line cannot be read: \(error.reason)")
            }
            return try compare()
        }
        guard !isEnded else { throw verifier.fault("there is something behind the last line") }
        let read: Line
        do throws(ProofFailure) {
            read = try Self.line(line)
        } catch {
            throw ChainFault(sequence: verifier.sequence + 1, entry: nil, reason: error.reason)
        }
        switch read {
        case .entry(let sealed): try verifier.take(sealed)
        case .head(let head): try verifier.take(head)
        case .last(let count, let head):
            try Self.end(count: count, head, &verifier)
            isEnded = true
        }
        chain = verifier
        try compare()
    }

    private static func line(_ bytes: [UInt8]) throws(ProofFailure) -> Line {
        let value = try ProofJSON(bytes)
        switch ExportReader.name(of: value) {
        case "\(Entry.objectName)": return .entry(try Entry.sealed(value))
        case "head": return .head(try SignedHead(value))
        case "trailer":
            var reader = try ExportReader(value, object: "trailer")
            let count = try reader.integer("count")
            let head = try reader.value("head")
            try reader.end()
            return .last(count: count, head == .null ? nil : try SignedHead(head))
        default: throw ProofFailure("it is no line of such an export")
        }
    }

    private func first(_ bytes: [UInt8]) throws(ProofFailure) -> ChainVerifier<Entry> {
        var reader = try ExportReader(try ProofJSON(bytes), object: Entry.exportName)
        guard try reader.integer("format") == 1 else {
            throw ProofFailure("the export has a format that this program does not know")
        }
        let chain: ProofChain = Entry.self == AuditRow.self ? .audit : .ledger(try reader.identifier("tenant_id"))
        let sequence = try reader.integer("after")
        let hash = try reader.hash("previous_hash")
        try reader.end()
        guard sequence >= 0, sequence > 0 || hash == chain.origin else {
            throw ProofFailure("the hash before the first entry is not the chain's own")
        }
        guard sequence == beginning else {
            throw ProofFailure(
                "the export begins behind the entry \(sequence) and not behind \(beginning): what is before is not in it"
            )
        }
        if let expected, expected.chain != chain { throw ProofFailure("the head that is known is of another chain") }
        return ChainVerifier(chain, after: sequence, hash: hash, keys: keys)
    }

    private static func end(
        count: Int64, _ head: SignedHead?, _ verifier: inout ChainVerifier<Entry>
    ) throws(ChainFault) {
        guard count == verifier.entryCount else {
            throw verifier.fault("the last line counts \(count) entries, and there are \(verifier.entryCount)")
        }
        guard let head else {
            guard verifier.isProved else { throw verifier.fault("the last line has no head") }
            return
        }
        try verifier.take(head)
    }

    /// Holds the head that is known against the chain where the chain has reached it.
    private mutating func compare() throws(ChainFault) {
        guard let expected, let chain, !hasMetExpected, chain.sequence == expected.sequence else { return }
        guard expected.hash == chain.hash else {
            throw chain.fault("the entries up to \(chain.sequence) do not lead to the head that is known")
        }
        hasMetExpected = true
    }
}

/// What proves one entry without the others: the document of `GET /api/v1/ledger/proofs/{request}`.
public struct ProofDocument: Sendable {
    public let sealed: Sealed<LedgerEntry>
    let previousHash: ProofHash
    let following: [ProofHash]
    public let head: SignedHead

    public init?(_ proof: EntryProof) {
        guard let first = proof.entries.first else { return nil }
        sealed = first
        previousHash = proof.previousHash ?? ProofChain.ledger(first.entry.tenantID).origin
        following = proof.entries.dropFirst().map(\.entry.leaf)
        head = proof.head
    }

    public var json: [UInt8] {
        var writer = ExportWriter(object: "ledger_proof", expecting: 2_048 + following.count * 70)
        writer.member("entry", json: LedgerEntry.line(sealed))
        writer.member("previous_hash", previousHash)
        writer.member("following", json: following.map { Array("\"\($0.hexadecimal)\"".utf8) })
        writer.member("head", json: head.json)
        return writer.end()
    }

    public init(json: [UInt8]) throws(ProofFailure) {
        var reader = try ExportReader(try ProofJSON(json), object: "ledger_proof")
        sealed = try LedgerEntry.sealed(try reader.value("entry"))
        previousHash = try reader.hash("previous_hash")
        let leaves = try reader.array("following")
        // What stands between two heads, and a little for those who would sign less often.
        guard leaves.count <= 4_096 else { throw ProofFailure("there are too many following leaves") }
        var following: [ProofHash] = []
        for leaf in leaves {
            guard case .string(let text) = leaf, let hash = ProofHash(hexadecimal: text) else {
                throw ProofFailure("a following leaf is no hash of 64 hexadecimal digits")
            }
            following.append(hash)
        }
        self.following = following
        head = try SignedHead(try reader.value("head"))
        try reader.end()
    }

    /// - Throws: why the entry is not proved.
    public func verify(keys: KeySet) throws(ProofFailure) {
        let chain = ProofChain.ledger(sealed.entry.tenantID)
        guard head.chain == chain else { throw ProofFailure("the head is of another chain than the entry") }
        guard sealed.sequence >= 1, sealed.sequence > 1 || previousHash == chain.origin else {
            throw ProofFailure("the hash before the first entry is not the chain's own")
        }
        var hash = chain.link(previousHash, sequence: sealed.sequence, leaf: sealed.entry.leaf)
        guard hash == sealed.hash else { throw ProofFailure("the entry's hash does not follow from it") }
        var sequence = sealed.sequence
        for leaf in following {
            sequence += 1
            hash = chain.link(hash, sequence: sequence, leaf: leaf)
        }
        guard head.sequence == sequence, head.hash == hash else {
            throw ProofFailure("the entry and those behind it do not lead to the head")
        }
        try keys.check(head)
    }
}
