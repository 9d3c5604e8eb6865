public import Domain

/// Goes on with chains: a value that is given entries in their order and gives back their places, and heads at the right ones.
public struct ChainSealer<Entry: SealedForm> {
    private var tips: [ProofChain: Tip]
    public private(set) var sealed: [(chain: ProofChain, entry: Sealed<Entry>)] = []
    public private(set) var heads: [SignedHead] = []
    private let signer: HeadSigner
    private let instant: Timestamp

    /// No more entries than these stand between two heads.
    public static var headInterval: Int64 { 256 }

    /// Where a chain stands.
    public struct Tip: Sendable {
        public let sequence: Int64
        public let hash: ProofHash

        public init(sequence: Int64, hash: ProofHash) {
            self.sequence = sequence
            self.hash = hash
        }
    }

    /// - Parameters:
    ///   - tips: of the chains that have entries already.
    ///   - instant: that heads are signed with.
    public init(tips: [ProofChain: Tip], signer: HeadSigner, at instant: Timestamp) {
        self.tips = tips
        self.signer = signer
        self.instant = instant
    }

    public mutating func add(_ entry: Entry, to chain: ProofChain) throws(ProofFailure) {
        let tip = tips[chain] ?? Tip(sequence: 0, hash: chain.origin)
        let sequence = tip.sequence + 1
        let hash = chain.link(tip.hash, sequence: sequence, leaf: entry.leaf)
        tips[chain] = Tip(sequence: sequence, hash: hash)
        sealed.append((chain, Sealed(sequence: sequence, entry: entry, hash: hash)))
        if sequence % Self.headInterval == 0 { try signHead(of: chain, sequence, hash) }
    }

    /// Signs where each of the chains stands that has grown.
    public mutating func finish() throws(ProofFailure) {
        let grown = Set(sealed.map(\.chain)).subtracting(
            heads.filter { tips[$0.chain]?.sequence == $0.sequence }.map(\.chain))
        for chain in grown {
            if let tip = tips[chain] { try signHead(of: chain, tip.sequence, tip.hash) }
        }
    }

    private mutating func signHead(
        of chain: ProofChain, _ sequence: Int64, _ hash: ProofHash
    ) throws(ProofFailure) {
        guard let head = signer.head(of: chain, sequence: sequence, hash: hash, at: instant) else {
            throw ProofFailure("a head could not be signed")
        }
        heads.append(head)
    }
}
