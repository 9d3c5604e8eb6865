public import Domain

/// What is wrong with a chain, and where.
public struct ChainFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// The first entry that is bad, or can be: where a forger has hashed anew what he changed, it stands between two heads.
    public let sequence: Int64
    /// `nil` where the entry itself is missing.
    public let entry: String?
    public let reason: String

    public init(sequence: Int64, entry: String?, reason: String) {
        self.sequence = sequence
        self.entry = entry
        self.reason = reason
    }

    public var description: String {
        "entry \(sequence)\(entry.map { " (\($0))" } ?? ""): \(reason)"
    }
}

/// Follows a chain entry by entry and holds its heads against it. A value of a few hundred bytes, however long the chain is.
public struct ChainVerifier<Entry: SealedForm>: Sendable {
    public let chain: ProofChain
    private let keys: KeySet
    public private(set) var sequence: Int64
    public private(set) var hash: ProofHash
    public private(set) var entryCount: Int64 = 0
    public private(set) var headCount: Int64 = 0
    /// What is known for certain: the entry behind the last head that held.
    private var firstUnproved: (sequence: Int64, entry: String)?

    /// - Parameters:
    ///   - sequence: of the entry that the first one follows; 0 for the beginning.
    ///   - hash: of the chain behind that entry; `nil` for the chain's origin.
    public init(_ chain: ProofChain, after sequence: Int64 = 0, hash: ProofHash? = nil, keys: KeySet) {
        self.chain = chain
        self.keys = keys
        self.sequence = sequence
        self.hash = hash ?? chain.origin
    }

    /// Whether all entries so far stand before a head that held.
    public var isProved: Bool { firstUnproved == nil }

    public mutating func take(_ sealed: Sealed<Entry>) throws(ChainFault) {
        let name = sealed.entry.entryName
        guard sealed.sequence == sequence + 1 else {
            // One that is ahead tells that the one that should be here is gone.
            throw ChainFault(
                sequence: sequence + 1, entry: sealed.sequence > sequence ? nil : name,
                reason: "expected the sequence number \(sequence + 1) and found \(sealed.sequence)")
        }
        let expected = chain.link(hash, sequence: sealed.sequence, leaf: sealed.entry.leaf)
        guard expected == sealed.hash else {
            throw ChainFault(
                sequence: sealed.sequence, entry: name,
                reason: "its hash does not follow from the entry and the one before")
        }
        sequence = sealed.sequence
        hash = sealed.hash
        entryCount += 1
        if firstUnproved == nil { firstUnproved = (sealed.sequence, name) }
    }

    public mutating func take(_ head: SignedHead) throws(ChainFault) {
        guard head.chain == chain else { throw fault("a head of another chain") }
        guard head.sequence == sequence else {
            throw fault("a head of the sequence number \(head.sequence) where \(sequence) was reached")
        }
        do throws(ProofFailure) {
            try keys.check(head)
        } catch {
            throw fault("the head at \(head.sequence): \(error.reason)")
        }
        guard head.hash == hash else {
            throw fault(
                "the entries up to \(sequence) do not lead to the hash that the head at \(sequence) is signed for")
        }
        headCount += 1
        firstUnproved = nil
    }

    /// A fault of the entry that should come next.
    public func missing(_ reason: String) -> ChainFault {
        ChainFault(sequence: sequence + 1, entry: nil, reason: reason)
    }

    /// A fault of the entries that no head has proved.
    public func fault(_ reason: String) -> ChainFault {
        ChainFault(
            sequence: firstUnproved?.sequence ?? sequence + 1, entry: firstUnproved?.entry, reason: reason)
    }
}
