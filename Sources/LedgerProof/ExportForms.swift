public import Domain

/// What stands in an export of a chain.
public protocol ExportedEntry: SealedForm {
    /// The entry with its place, as one JSON object without a line end.
    static func line(_ sealed: Sealed<Self>) -> [UInt8]
    /// Reads what `line` wrote.
    static func sealed(_ value: ProofJSON) throws(ProofFailure) -> Sealed<Self>
    static var objectName: StaticString { get }
    /// What the first line of an export calls itself.
    static var exportName: StaticString { get }
}

extension LedgerEntry: ExportedEntry {
    public static let objectName: StaticString = "ledger_entry"
    public static let exportName: StaticString = "ledger_export"

    public static func line(_ sealed: Sealed<LedgerEntry>) -> [UInt8] {
        let entry = sealed.entry
        var writer = ExportWriter(object: objectName)
        writer.member("seq", sealed.sequence)
        writer.member("entry_id", entry.entryID)
        writer.member("tenant_id", entry.tenantID)
        writer.member("user_id", entry.userID)
        writer.member("key_id", entry.keyID)
        writer.member("request_id", entry.requestID.publicText)
        writer.member("kind", entry.kind)
        writer.member("model", entry.model)
        writer.member("model_version", entry.modelVersion)
        writer.member("price_version", entry.tierVersionID.priceVersionText)
        writer.member("lease_id", entry.leaseID)
        writer.member("requests", entry.requests)
        writer.member("input_tokens", entry.inputTokens)
        writer.member("cached_input_tokens", entry.cachedInputTokens)
        writer.member("output_tokens", entry.outputTokens)
        writer.member("token_source", entry.tokenSource)
        writer.member("occurred_at", entry.occurredAt)
        writer.member("posted_at", entry.postedAt)
        writer.member("served_input_tokens", entry.servedInputTokens)
        writer.member("served_output_tokens", entry.servedOutputTokens)
        // There only where there are tags: it says as well which form is hashed.
        if let tags = entry.tags { writer.member("tags", tags) }
        writer.member("hash", sealed.hash)
        return writer.end()
    }

    public static func sealed(_ value: ProofJSON) throws(ProofFailure) -> Sealed<LedgerEntry> {
        var reader = try ExportReader(value, object: objectName)
        let sequence = try reader.integer("seq")
        let entry = LedgerEntry(
            entryID: try reader.identifier("entry_id"), tenantID: try reader.identifier("tenant_id"),
            userID: try reader.optionalIdentifier("user_id"), keyID: try reader.identifier("key_id"),
            requestID: try reader.identifier("request_id", prefix: "req_"), kind: try reader.text("kind"),
            model: try reader.text("model"), modelVersion: try reader.text("model_version"),
            tierVersionID: try reader.identifier("price_version", prefix: "pv_"),
            leaseID: try reader.optionalIdentifier("lease_id"), requests: try reader.integer("requests"),
            inputTokens: try reader.integer("input_tokens"),
            cachedInputTokens: try reader.integer("cached_input_tokens"),
            outputTokens: try reader.integer("output_tokens"), tokenSource: try reader.text("token_source"),
            occurredAt: try reader.instant("occurred_at"), postedAt: try reader.instant("posted_at"),
            servedInputTokens: try reader.integer("served_input_tokens"),
            servedOutputTokens: try reader.integer("served_output_tokens"),
            tags: reader.has("tags") ? try reader.text("tags") : nil)
        let hash = try reader.hash("hash")
        try reader.end()
        return Sealed(sequence: sequence, entry: entry, hash: hash)
    }
}

extension AuditRow: ExportedEntry {
    public static let objectName: StaticString = "audit_entry"
    public static let exportName: StaticString = "audit_export"

    public static func line(_ sealed: Sealed<AuditRow>) -> [UInt8] {
        let entry = sealed.entry
        var writer = ExportWriter(object: objectName, expecting: 4_096)
        writer.member("seq", sealed.sequence)
        writer.member("id", entry.id)
        writer.member("at", entry.at)
        writer.member("actor", entry.actor)
        writer.member("action", entry.action)
        writer.member("subject_type", entry.subjectType)
        writer.member("subject_id", entry.subjectID)
        writer.member("tenant_id", entry.tenantID)
        // As texts: what is hashed are their bytes, and another program would write the same documents otherwise.
        writer.member("before", entry.before)
        writer.member("after", entry.after)
        writer.member("hash", sealed.hash)
        return writer.end()
    }

    public static func sealed(_ value: ProofJSON) throws(ProofFailure) -> Sealed<AuditRow> {
        var reader = try ExportReader(value, object: objectName)
        let sequence = try reader.integer("seq")
        let entry = AuditRow(
            id: try reader.identifier("id"), at: try reader.instant("at"), actor: try reader.text("actor"),
            action: try reader.text("action"), subjectType: try reader.text("subject_type"),
            subjectID: try reader.text("subject_id"), tenantID: try reader.optionalIdentifier("tenant_id"),
            before: try reader.optionalText("before"), after: try reader.optionalText("after"))
        let hash = try reader.hash("hash")
        try reader.end()
        return Sealed(sequence: sequence, entry: entry, hash: hash)
    }
}

extension SignedHead {
    private static let objectName: StaticString = "head"

    /// One JSON object without a line end.
    public var json: [UInt8] {
        var writer = ExportWriter(object: Self.objectName)
        switch chain {
        case .ledger(let tenant):
            writer.member("chain", "ledger")
            writer.member("tenant_id", tenant)
        case .audit: writer.member("chain", "audit")
        }
        writer.member("seq", sequence)
        writer.member("hash", hash)
        writer.member("signed_at", signedAt)
        writer.member("key_id", keyID.description)
        writer.member("signature", signature.hexadecimal)
        return writer.end()
    }

    public init(json: [UInt8]) throws(ProofFailure) { try self.init(try ProofJSON(json)) }

    init(_ value: ProofJSON) throws(ProofFailure) {
        var reader = try ExportReader(value, object: Self.objectName)
        let chain: ProofChain
        switch try reader.text("chain") {
        case "ledger": chain = .ledger(try reader.identifier("tenant_id"))
        case "audit": chain = .audit
        default: throw ProofFailure("the head's chain is neither ledger nor audit")
        }
        self.init(
            chain: chain, sequence: try reader.integer("seq"), hash: try reader.hash("hash"),
            signedAt: try reader.instant("signed_at"), keyID: try reader.keyID("key_id"),
            signature: try reader.bytes("signature", count: 64))
        try reader.end()
    }
}

extension KeySet {
    /// The document of `GET /.well-known/weir-keys`.
    public static func json(_ keys: [PublicSigningKey]) -> [UInt8] {
        var writer = ExportWriter(object: "list")
        writer.member(
            "data",
            json: keys.map { key in
                var writer = ExportWriter(object: "signing_key")
                writer.member("id", key.id.description)
                writer.member("algorithm", "ed25519")
                writer.member("public_key", key.publicKey.hexadecimal)
                writer.member("state", key.state.rawValue)
                writer.member("created_at", key.createdAt)
                writer.member("retired_at", key.retiredAt?.description)
                return writer.end()
            })
        return writer.end()
    }

    public init(json: [UInt8]) throws(ProofFailure) {
        var list = try ExportReader(try ProofJSON(json), object: "list")
        var keys: [PublicSigningKey] = []
        for value in try list.array("data") {
            var reader = try ExportReader(value, object: "signing_key")
            let id = try reader.keyID("id")
            guard try reader.text("algorithm") == "ed25519" else {
                throw ProofFailure("the key \(id) is no Ed25519 key")
            }
            let publicKey = try reader.bytes("public_key", count: 32)
            guard let state = PublicSigningKey.State(rawValue: try reader.text("state")) else {
                throw ProofFailure("the key \(id) has a state that this program does not know")
            }
            keys.append(
                PublicSigningKey(
                    id: id, publicKey: publicKey, state: state, createdAt: try reader.instant("created_at"),
                    retiredAt: try reader.optionalInstant("retired_at")))
            try reader.end()
        }
        try list.end()
        guard Set(keys.map(\.id)).count == keys.count else { throw ProofFailure("a key is there twice") }
        self.init(keys)
    }
}
