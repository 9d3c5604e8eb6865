public import Domain
internal import PostgresDriver

extension AdministrationStore: ProofAdministration {
    public func rotateSigningKey(
        isCompromised: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PublicSigningKey {
        guard let fresh = FreshSigningKey(seal: signingSeal) else {
            throw .refused(Refusal(.internalError, "Something failed on our side.", cause: "a key cannot be sealed"))
        }
        return try await change(actor) { change in
            try await change.rotateSigningKey(to: fresh.insertion, isCompromised: isCompromised)
        }
    }

    public func distrustSigningKey(
        _ id: SigningKeyID, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PublicSigningKey {
        guard let fresh = FreshSigningKey(seal: signingSeal) else {
            throw .refused(Refusal(.internalError, "Something failed on our side.", cause: "a key cannot be sealed"))
        }
        return try await change(actor) { change in
            try await change.distrustSigningKey(id, orReplaceBy: fresh.insertion)
        }
    }

    public func signingKeys() async throws(AdministrationFailure) -> [PublicSigningKey] {
        try await read(ListSigningKeys())
    }

    public func ledgerHead(of tenantID: TenantID) async throws(AdministrationFailure) -> SignedHead? {
        _ = try await tenant(tenantID)
        return try await read(ReadLastHead(tenantID: tenantID), from: reports).first?.head(of: .ledger(tenantID))
    }

    public func ledgerPage(
        of tenantID: TenantID, after sequence: Int64, through end: Int64, limit: Int
    ) async throws(AdministrationFailure) -> ChainPage<LedgerEntry> {
        let entries = try await read(
            ReadSealedEntries(tenantID: tenantID, after: sequence, end: end, limit: Int64(limit)), from: reports)
        guard let last = entries.last?.sequence else { return ChainPage(entries: [], heads: []) }
        let heads = try await read(
            ReadHeads(tenantID: tenantID, after: sequence, end: last, limit: Int64(limit)), from: reports)
        return ChainPage(entries: entries, heads: heads.map { $0.head(of: .ledger(tenantID)) })
    }

    public func ledgerHash(
        of tenantID: TenantID, at sequence: Int64
    ) async throws(AdministrationFailure) -> ProofHash? {
        try await read(ReadChainHash(tenantID: tenantID, sequence: sequence), from: reports).first
    }

    public func auditHead() async throws(AdministrationFailure) -> SignedHead? {
        try await read(ReadLastAuditHead()).first?.head(of: .audit)
    }

    public func auditPage(
        after sequence: Int64, through end: Int64, limit: Int
    ) async throws(AdministrationFailure) -> ChainPage<AuditRow> {
        let entries = try await read(ReadSealedAudit(after: sequence, end: end, limit: Int64(limit)))
        guard let last = entries.last?.sequence else { return ChainPage(entries: [], heads: []) }
        let heads = try await read(ReadAuditHeads(after: sequence, end: last, limit: Int64(limit)))
        return ChainPage(entries: entries, heads: heads.map { $0.head(of: .audit) })
    }
}

extension AdministrationTransaction {
    func rotateSigningKey(to fresh: InsertSigningKey, isCompromised: Bool) async throws -> PublicSigningKey {
        _ = try await connection.execute(LockSigningKeys())
        let retired = try await connection.execute(RetireSigningKey(isCompromised: isCompromised)).first
        _ = try await connection.execute(fresh)
        try await audit(
            "signing_key.rotate", "signing_key", fresh.id.description,
            before: retired.map { "{\"active\": \"\($0)\"}" },
            after: "{\"active\": \"\(fresh.id)\", \"compromised\": \(isCompromised)}")
        return try await signingKey(fresh.id)
    }

    /// - Parameter fresh: takes the place of the key where that is in use.
    func distrustSigningKey(
        _ id: SigningKeyID, orReplaceBy fresh: InsertSigningKey
    ) async throws -> PublicSigningKey {
        _ = try await connection.execute(LockSigningKeys())
        switch try await signingKey(id).state {
        case .compromised:
            throw Refusal(.conflict, "The key is marked as compromised already.")
        case .active: _ = try await rotateSigningKey(to: fresh, isCompromised: true)
        case .retired:
            _ = try await connection.execute(DistrustSigningKey(id: id))
            try await audit(
                "signing_key.distrust", "signing_key", id.description, before: #"{"state": "retired"}"#,
                after: #"{"state": "compromised"}"#)
        }
        return try await signingKey(id)
    }

    private func signingKey(_ id: SigningKeyID) async throws -> PublicSigningKey {
        guard let row = try await connection.execute(ListSigningKeys()).first(where: { $0.id == id }) else {
            throw Refusal(.notFound, "There is no such signing key. GET /.well-known/weir-keys lists them.")
        }
        return row
    }
}
