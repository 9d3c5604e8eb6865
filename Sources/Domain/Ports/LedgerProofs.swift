/// Makes receipts of settlements that are committed, many with one signature.
public protocol ReceiptIssuer: Sendable {
    /// Fills the orders of the settlements that have one. Blocks for some microseconds for each of them; called by the thread that commits.
    func issue(_ settlements: [Settlement])
}

/// Keeps the keys that heads and receipts are signed with.
public protocol SigningKeyDirectory: Sendable {
    /// All keys. Makes the first one where there is none.
    func signingKeys() async throws(StoreUnavailable) -> SigningKeys
    /// Moves at each change of the control plane.
    func generation() async throws(StoreUnavailable) -> Int64
}

/// One round of the sealer.
public struct SealRound: Sendable {
    public let entries: Int
    public let heads: Int
    /// How long the oldest entry waits that is not sealed; zero where none does.
    public let unsealedSeconds: Int64

    public init(entries: Int, heads: Int, unsealedSeconds: Int64) {
        self.entries = entries
        self.heads = heads
        self.unsealedSeconds = unsealedSeconds
    }
}

/// Chains what was written, in the order in which its transactions came.
public protocol LedgerSealing: Sendable {
    /// Seals at most `limit` entries of the ledger in one transaction. `nil` where another process is sealing.
    func sealLedger(limit: Int) async throws(StoreUnavailable) -> SealRound?
    /// The same for the audit log.
    func sealAudit(limit: Int) async throws(StoreUnavailable) -> SealRound?
}

/// A page of a chain: entries in sequence, and the heads on them.
public struct ChainPage<Entry: Sendable>: Sendable {
    public let entries: [Sealed<Entry>]
    /// In order of their sequence.
    public let heads: [SignedHead]

    public init(entries: [Sealed<Entry>], heads: [SignedHead]) {
        self.entries = entries
        self.heads = heads
    }
}

/// What proves one entry: the chain from just before it to the next head.
public struct EntryProof: Sendable {
    /// The chain's hash before the entry; `nil` for the first one.
    public let previousHash: ProofHash?
    /// The entry, and those behind it up to the head.
    public let entries: [Sealed<LedgerEntry>]
    public let head: SignedHead

    public init(previousHash: ProofHash?, entries: [Sealed<LedgerEntry>], head: SignedHead) {
        self.previousHash = previousHash
        self.entries = entries
        self.head = head
    }
}

/// Whether an entry can be proved.
public enum EntryProofAnswer: Sendable {
    case proved(EntryProof)
    /// It is in the ledger and not sealed yet.
    case notSealed
    /// There is no such entry, or it is another tenant's.
    case unknown
}

/// An entry of the audit log as its tenant sees it.
public struct PlacedAuditRow: Sendable {
    public let row: AuditRow
    /// Its place in the chain of the installation; `nil` until it is sealed.
    public let sequence: Int64?
    public let hash: ProofHash?

    public init(row: AuditRow, sequence: Int64?, hash: ProofHash?) {
        self.row = row
        self.sequence = sequence
        self.hash = hash
    }
}

/// What a customer reads of its sealed ledger. Every read names the tenant, and the database checks it a second time.
public protocol LedgerProofRecords: Sendable {
    /// The last head; `nil` before the first one.
    func head(tenantID: TenantID) async throws(StoreUnavailable) -> SignedHead?
    /// At most `limit` sealed entries behind `sequence` and not behind `end`, with the heads on them.
    func entries(
        after sequence: Int64, through end: Int64, limit: Int, tenantID: TenantID
    ) async throws(StoreUnavailable) -> ChainPage<LedgerEntry>
    /// The chain's hash behind the entry of that sequence number.
    func hash(at sequence: Int64, tenantID: TenantID) async throws(StoreUnavailable) -> ProofHash?
    func proof(of id: RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> EntryProofAnswer
    /// The tenant's part of the audit log, newest first.
    func audit(tenantID: TenantID, _ page: PageRequest<AuditID>) async throws(StoreUnavailable) -> Page<PlacedAuditRow>
}

/// What the operator does and reads of the proofs; over all tenants.
public protocol ProofAdministration: Sendable {
    /// Retires the active key and makes another one. Gateways follow within a second.
    /// - Parameter isCompromised: somebody else may have the old one: what it signed proves nothing any more, and heads are signed anew.
    func rotateSigningKey(isCompromised: Bool, by actor: AuditActor) async throws(AdministrationFailure)
        -> PublicSigningKey
    /// Says that somebody else may have a key, in use or retired: what it signed proves nothing any more, and heads are signed anew. One that is
    /// in use is replaced.
    /// - Throws: `not_found`; `conflict` for one of which it was said already.
    func distrustSigningKey(_ id: SigningKeyID, by actor: AuditActor) async throws(AdministrationFailure)
        -> PublicSigningKey
    /// Newest first.
    func signingKeys() async throws(AdministrationFailure) -> [PublicSigningKey]
    /// - Throws: `not_found` for an unknown tenant.
    func ledgerHead(of tenantID: TenantID) async throws(AdministrationFailure) -> SignedHead?
    /// As ``LedgerProofRecords/entries(after:through:limit:tenantID:)``.
    func ledgerPage(
        of tenantID: TenantID, after sequence: Int64, through end: Int64, limit: Int
    ) async throws(AdministrationFailure) -> ChainPage<LedgerEntry>
    func ledgerHash(of tenantID: TenantID, at sequence: Int64) async throws(AdministrationFailure) -> ProofHash?
    func auditHead() async throws(AdministrationFailure) -> SignedHead?
    func auditPage(
        after sequence: Int64, through end: Int64, limit: Int
    ) async throws(AdministrationFailure) -> ChainPage<AuditRow>
}
