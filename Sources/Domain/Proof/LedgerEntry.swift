/// An entry of the ledger with all that is sealed of it.
///
/// Kind and source stay texts: an entry has to be verifiable also by a build that does not know a later word.
public struct LedgerEntry: Hashable, Sendable {
    /// Of a usage entry the request's id.
    public var entryID: RequestID
    public var tenantID: TenantID
    public var userID: UserID?
    public var keyID: KeyID
    public var requestID: RequestID
    /// `usage` or `correction`.
    public var kind: String
    public var model: String
    public var modelVersion: String
    public var tierVersionID: TierVersionID
    public var leaseID: LeaseID?
    public var requests: Int64
    public var inputTokens: Int64
    public var cachedInputTokens: Int64
    public var outputTokens: Int64
    public var tokenSource: String
    public var occurredAt: Timestamp
    public var postedAt: Timestamp
    /// What the answer had cost a worker, for one that came from the cache; zero otherwise.
    public var servedInputTokens: Int64
    public var servedOutputTokens: Int64
    /// The caller's tags in the order in which they are kept, joined by commas; `nil` where there are none.
    public var tags: String?

    public init(
        entryID: RequestID, tenantID: TenantID, userID: UserID?, keyID: KeyID, requestID: RequestID, kind: String,
        model: String, modelVersion: String, tierVersionID: TierVersionID, leaseID: LeaseID?, requests: Int64,
        inputTokens: Int64, cachedInputTokens: Int64, outputTokens: Int64, tokenSource: String, occurredAt: Timestamp,
        postedAt: Timestamp, servedInputTokens: Int64, servedOutputTokens: Int64, tags: String? = nil
    ) {
        self.entryID = entryID
        self.tenantID = tenantID
        self.userID = userID
        self.keyID = keyID
        self.requestID = requestID
        self.kind = kind
        self.model = model
        self.modelVersion = modelVersion
        self.tierVersionID = tierVersionID
        self.leaseID = leaseID
        self.requests = requests
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
        self.tokenSource = tokenSource
        self.occurredAt = occurredAt
        self.postedAt = postedAt
        self.servedInputTokens = servedInputTokens
        self.servedOutputTokens = servedOutputTokens
        self.tags = tags
    }
}

/// Something with its place in a chain.
public struct Sealed<Entry: Sendable>: Sendable {
    /// From 1 on, without a gap.
    public let sequence: Int64
    public let entry: Entry
    /// The chain's hash behind this entry.
    public let hash: ProofHash

    public init(sequence: Int64, entry: Entry, hash: ProofHash) {
        self.sequence = sequence
        self.entry = entry
        self.hash = hash
    }
}

/// Which chain: one for the ledger of each tenant, one for the audit log of the installation.
public enum ProofChain: Hashable, Sendable {
    case ledger(TenantID)
    case audit
}

/// What the installation says of a chain with its signature: behind `sequence` entries its hash is `hash`.
public struct SignedHead: Hashable, Sendable {
    public let chain: ProofChain
    public let sequence: Int64
    public let hash: ProofHash
    public let signedAt: Timestamp
    public let keyID: SigningKeyID
    /// Ed25519 (RFC 8032), 64 bytes.
    public let signature: [UInt8]

    public init(
        chain: ProofChain, sequence: Int64, hash: ProofHash, signedAt: Timestamp, keyID: SigningKeyID,
        signature: [UInt8]
    ) {
        self.chain = chain
        self.sequence = sequence
        self.hash = hash
        self.signedAt = signedAt
        self.keyID = keyID
        self.signature = signature
    }
}
