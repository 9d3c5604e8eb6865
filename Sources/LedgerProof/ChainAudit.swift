public import Domain

/// A seal as it is kept, with the entry that it is of.
public struct SealRow<Entry: SealedForm>: Sendable {
    public let sequence: Int64
    /// How the seal names its entry.
    public let entryName: String
    /// `nil` where there is none of that name.
    public let entry: Entry?
    public let hash: ProofHash

    public init(sequence: Int64, entryName: String, entry: Entry?, hash: ProofHash) {
        self.sequence = sequence
        self.entryName = entryName
        self.entry = entry
        self.hash = hash
    }
}

/// Something of a chain in the tables that is not as it was sealed.
public enum ChainFinding: Equatable, Sendable {
    /// The entry has another leaf: the seals before and behind it agree.
    case entryDiffers(entryName: String, expected: ProofHash, found: ProofHash)
    case entryMissing(entryName: String, sequence: Int64)
    /// The seal has another hash than its entry gives it, and the one behind it stands on that.
    case sealDiffers(sequence: Int64, expected: ProofHash, found: ProofHash)
    case sealMissing(sequence: Int64)
}

/// Follows seals as they are kept and tells which of them, or which of their entries, was changed: unlike ``ChainVerifier``, which trusts nothing
/// behind the first fault, it goes on from each seal's own hash, so that one row that was changed is one finding.
public struct ChainAudit<Entry: SealedForm>: Sendable {
    public let chain: ProofChain
    private var previous: (sequence: Int64, hash: ProofHash?)
    /// Did not follow; the next seal tells whether it or its entry was changed.
    private var suspect: Suspect?
    /// Of seals whose own hash is wrong, what it should be. Bounded by the caller, who stops when enough was found.
    public private(set) var corrected: [Int64: ProofHash] = [:]

    private struct Suspect: Sendable {
        let row: SealRow<Entry>
        let computed: ProofHash
    }

    private static var correctedLimit: Int { 1_000 }

    /// - Parameter hash: of the seal `sequence`; `nil` where it is not known, and ignored for 0.
    public init(_ chain: ProofChain, after sequence: Int64, hash: ProofHash?) {
        self.chain = chain
        previous = (sequence, sequence == 0 ? chain.origin : hash)
    }

    /// Takes the seals in order.
    public mutating func take(_ row: SealRow<Entry>) -> [ChainFinding] {
        var findings: [ChainFinding] = []
        let leaf = row.entry?.leaf
        if row.sequence > previous.sequence + 1 {
            findings += resolve(nil)
            findings.append(.sealMissing(sequence: previous.sequence + 1))
            // The gap is one finding, however wide: what follows it cannot be checked against what is gone.
            previous = (row.sequence - 1, nil)
        }
        var before = previous.hash
        if let suspect {
            let onComputed = leaf.map { chain.link(suspect.computed, sequence: row.sequence, leaf: $0) }
            if onComputed == row.hash { before = suspect.computed }
            findings += resolve(onComputed == row.hash ? .seal : .entry)
        }
        if let leaf {
            let computed = before.map { chain.link($0, sequence: row.sequence, leaf: leaf) }
            if let computed, computed != row.hash { suspect = Suspect(row: row, computed: computed) }
        } else {
            findings.append(.entryMissing(entryName: row.entryName, sequence: row.sequence))
        }
        previous = (row.sequence, row.hash)
        return findings
    }

    /// Whether the last one is still to be told.
    public var isOpen: Bool { suspect != nil }

    /// Tells of the last one by a head on it, where there is no seal behind it.
    public mutating func end(head: ProofHash?) -> [ChainFinding] {
        guard let suspect else { return [] }
        return resolve(head == suspect.computed ? .seal : .entry)
    }

    private enum Changed {
        case seal
        case entry
    }

    private mutating func resolve(_ changed: Changed?) -> [ChainFinding] {
        guard let suspect else { return [] }
        self.suspect = nil
        if changed == .seal {
            if corrected.count < Self.correctedLimit { corrected[suspect.row.sequence] = suspect.computed }
            return [.sealDiffers(sequence: suspect.row.sequence, expected: suspect.computed, found: suspect.row.hash)]
        }
        return [
            .entryDiffers(entryName: suspect.row.entryName, expected: suspect.row.hash, found: suspect.computed)
        ]
    }
}
