public import Domain

/// What is sealed: how an entry becomes the leaf of its chain.
public protocol SealedForm: Sendable {
    /// SHA-256 over the canonical form of all of it.
    var leaf: ProofHash { get }
    /// How a report names it.
    var entryName: String { get }
}

extension LedgerEntry: SealedForm {
    public var leaf: ProofHash {
        var form = CanonicalForm(tags == nil ? "weir.ledger.entry.v1" : "weir.ledger.entry.v2")
        form.field(entryID)
        form.field(tenantID)
        form.field(userID)
        form.field(keyID)
        form.field(requestID)
        form.field(kind)
        form.field(model)
        form.field(modelVersion)
        form.field(tierVersionID)
        form.field(leaseID)
        form.field(requests)
        form.field(inputTokens)
        form.field(cachedInputTokens)
        form.field(outputTokens)
        form.field(tokenSource)
        form.field(occurredAt)
        form.field(postedAt)
        form.field(servedInputTokens)
        form.field(servedOutputTokens)
        if let tags { form.field(tags) }
        return form.hash
    }

    public var entryName: String { entryID.description }
}

extension AuditRow: SealedForm {
    public var leaf: ProofHash {
        var form = CanonicalForm("weir.audit.entry.v1", expecting: 2_048)
        form.field(id)
        form.field(at)
        form.field(actor)
        form.field(action)
        form.field(subjectType)
        form.field(subjectID)
        form.field(tenantID)
        form.field(before)
        form.field(after)
        return form.hash
    }

    public var entryName: String { id.description }
}

extension ProofChain {
    /// The hash before the first entry. It names the tenant, so that no entry of another chain fits.
    public var origin: ProofHash {
        switch self {
        case .ledger(let tenant):
            var form = CanonicalForm("weir.ledger.chain.v1")
            form.field(tenant)
            return form.hash
        case .audit: return CanonicalForm("weir.audit.chain.v1").hash
        }
    }

    /// The hash behind the entry of that sequence number.
    public func link(_ previous: ProofHash, sequence: Int64, leaf: ProofHash) -> ProofHash {
        var form = CanonicalForm(isAudit ? "weir.audit.link.v1" : "weir.ledger.link.v1", expecting: 160)
        form.field(previous)
        form.field(sequence)
        form.field(leaf)
        return form.hash
    }

    /// What a head's signature is over.
    func headForm(sequence: Int64, hash: ProofHash, signedAt: Timestamp, keyID: SigningKeyID) -> [UInt8] {
        var form: CanonicalForm
        switch self {
        case .ledger(let tenant):
            form = CanonicalForm("weir.ledger.head.v1")
            form.field(tenant)
        case .audit: form = CanonicalForm("weir.audit.head.v1")
        }
        form.field(sequence)
        form.field(hash)
        form.field(signedAt)
        form.field(keyID.bytes)
        return form.bytes
    }

    private var isAudit: Bool { if case .audit = self { true } else { false } }
}
