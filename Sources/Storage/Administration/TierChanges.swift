public import Domain
internal import PostgresDriver

extension AdministrationStore {
    public func createTier(_ tier: NewTier, by actor: AuditActor) async throws(AdministrationFailure) -> TierRow {
        try await change(actor) { change in try await change.createTier(tier) }
    }

    public func tiers(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<TierRow> {
        try await list(ListTiers(page: page), page)
    }

    public func tier(_ code: String) async throws(AdministrationFailure) -> TierRow {
        guard let row = try await read(FindTier(code: code)).first else { throw .refused(.unknownTier) }
        return row
    }

    public func tierVersions(
        of code: String, _ page: PageRequest<Int32>
    ) async throws(AdministrationFailure) -> Page<TierRow> {
        _ = try await tier(code)
        return try await list(ListTierVersions(code: code, page: page), page)
    }

    public func tierVersion(_ name: TierVersionName) async throws(AdministrationFailure) -> TierRow {
        guard let row = try await read(FindTierVersion(name: name)).first else { throw .refused(.unknownTierVersion) }
        return row
    }

    public func draftTierVersion(
        of code: String, _ offer: TierOffer, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try await change(actor) { change in try await change.draftTierVersion(of: code, offer) }
    }

    public func changeTierDraft(
        _ name: TierVersionName, from old: TierOffer, to new: TierOffer, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try await change(actor) { change in try await change.changeTierDraft(name, from: old, to: new) }
    }

    public func deleteTierDraft(
        _ name: TierVersionName, by actor: AuditActor
    ) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.deleteTierDraft(name) }
    }

    public func publishTierVersion(
        _ name: TierVersionName, _ publication: TierPublication, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try await change(actor) { change in try await change.publishTierVersion(name, publication) }
    }

    public func retireTierVersion(
        _ name: TierVersionName, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try await change(actor) { change in try await change.retireTierVersion(name) }
    }
}

extension AdministrationTransaction {
    func createTier(_ tier: NewTier) async throws -> TierRow {
        if let tenant = tier.tenantID, try await connection.execute(FindTenant(id: tenant)).isEmpty {
            throw Refusal.invalid(
                "/tenant_id", "There is no such tenant.", fix: "Take an id from GET /admin/v1/tenants.")
        }
        guard try await connection.affectedRows(by: InsertTier(tier: tier)) == 1 else {
            throw Refusal(.conflict, "There is a tier \(tier.code) already.")
        }
        let name = TierVersionName(code: tier.code, number: 1)
        let version: TierVersionID = newID()
        _ = try await connection.execute(InsertTierVersion(id: version, name: name, offer: tier.offer))
        try await insertParts(of: tier.offer, version)
        try await publish(version)
        let after = try await connection.execute(DescribeTierVersion(id: version)).first
        try await audit("tier.publish", "tier", tier.code, before: nil, after: after)
        return try await tierVersion(name)
    }

    func draftTierVersion(of code: String, _ offer: TierOffer) async throws -> TierRow {
        guard let tier = try await connection.execute(LockTier(code: code)).first else { throw Refusal.unknownTier }
        if let currency = tier.currency, currency != offer.currency {
            throw Refusal.invalid(
                "/currency", "The versions of this tier are in \(currency).",
                fix: "Send \(currency), or make another tier for another currency.")
        }
        guard tier.lastNumber < .max else { throw Refusal(.conflict, "The tier has as many versions as it can have.") }
        let name = TierVersionName(code: code, number: tier.lastNumber + 1)
        let id: TierVersionID = newID()
        _ = try await connection.execute(InsertTierVersion(id: id, name: name, offer: offer))
        try await insertParts(of: offer, id)
        let after = try await connection.execute(DescribeTierVersion(id: id)).first
        try await audit("tier.draft", "tier", code, before: nil, after: after)
        return try await tierVersion(name)
    }

    func changeTierDraft(_ name: TierVersionName, from old: TierOffer, to new: TierOffer) async throws -> TierRow {
        let (_, row) = try await locked(name, in: .draft)
        guard row.version.offer == old else {
            throw Refusal(
                .conflict, "Somebody changed the draft at the same moment. Read it again and repeat the change.")
        }
        let id = row.version.id
        let before = try await connection.execute(DescribeTierVersion(id: id)).first
        try await deleteParts(of: id)
        _ = try await connection.execute(UpdateTierDraft(id: id, offer: new))
        try await insertParts(of: new, id)
        let after = try await connection.execute(DescribeTierVersion(id: id)).first
        if before != after { try await audit("tier.change", "tier", name.code, before: before, after: after) }
        return try await tierVersion(name)
    }

    func deleteTierDraft(_ name: TierVersionName) async throws {
        let (_, row) = try await locked(name, in: .draft)
        let before = try await connection.execute(DescribeTierVersion(id: row.version.id)).first
        try await deleteParts(of: row.version.id)
        _ = try await connection.execute(DeleteTierVersion(tierVersionID: row.version.id))
        try await audit("tier.delete", "tier", name.code, before: before, after: nil)
    }

    func publishTierVersion(_ name: TierVersionName, _ publication: TierPublication) async throws -> TierRow {
        let (tier, row) = try await locked(name, in: .draft)
        guard tier.lastPublished < name.number else {
            throw Refusal(
                .conflict,
                "Version \(tier.lastPublished) is published and newer. Make a draft of this one's prices and publish that."
            )
        }
        if let promise = row.version.offer.brokenPromises.first { throw Refusal.brokenPromise(promise, "/quotas") }
        let issued = TierVersionName(code: name.code, number: tier.lastIssued)
        if let last = try await connection.execute(FindTierVersion(name: issued)).first {
            let jumps = row.version.offer.jumps(from: last.version.offer, factor: publication.factor)
            if !jumps.isEmpty { try await confirm(jumps, row, publication) }
        }
        let before = try await connection.execute(DescribeTierVersion(id: row.version.id)).first
        try await publish(row.version.id)
        let after = try await connection.execute(DescribeTierVersion(id: row.version.id)).first
        try await audit("tier.publish", "tier", name.code, before: before, after: after)
        return try await tierVersion(name)
    }

    func retireTierVersion(_ name: TierVersionName) async throws -> TierRow {
        let (_, row) = try await locked(name, in: .published)
        let before = try await connection.execute(DescribeTierVersion(id: row.version.id)).first
        _ = try await connection.execute(RetireTierVersion(id: row.version.id))
        let after = try await connection.execute(DescribeTierVersion(id: row.version.id)).first
        try await audit("tier.retire", "tier", name.code, before: before, after: after)
        return try await tierVersion(name)
    }

    // MARK: Parts

    private func tierVersion(_ name: TierVersionName) async throws -> TierRow {
        guard let row = try await connection.execute(FindTierVersion(name: name)).first else {
            throw Refusal.unknownTierVersion
        }
        return row
    }

    private func locked(_ name: TierVersionName, in state: TierRow.State) async throws -> (LockTier.Row, TierRow) {
        guard let tier = try await connection.execute(LockTier(code: name.code)).first else {
            throw Refusal.unknownTierVersion
        }
        let row = try await tierVersion(name)
        guard row.version.state == state else {
            throw Refusal(
                .conflict,
                state == .draft
                    ? "The version is \(row.version.state.rawValue) and cannot change any more. Make a draft of what shall be otherwise."
                    : "The version is \(row.version.state.rawValue); only a published one can be retired.")
        }
        return (tier, row)
    }

    /// A version that would begin in the past would change what was sold.
    private func publish(_ id: TierVersionID) async throws {
        guard try await connection.affectedRows(by: PublishTierVersion(id: id)) == 1 else {
            throw Refusal.invalid(
                "/effective_at", "lies in the past, and what was sold does not change",
                fix: "Set effective_at to a later time, or to null for the moment of publication.")
        }
    }

    private func confirm(_ jumps: [PriceJump], _ row: TierRow, _ publication: TierPublication) async throws {
        if let digest = publication.confirmation,
            try await !connection.execute(FindTierReplay(tierVersionID: row.version.id, digest: digest)).isEmpty
        {
            return
        }
        let path = "/admin/v1/tiers/\(row.code)/versions/\(row.version.number)/replay"
        throw Refusal(
            .priceChangeTooLarge,
            publication.confirmation == nil
                ? "The draft moves prices by more than \(publication.factor) times. See what that does to bills with POST \(path), and publish with its digest as confirm."
                : "The digest is not of a replay of this draft as it is now, of all bills of the tier, up to the last month that is over. Leave tenant_id and until out, replay it again with POST \(path), and publish with its digest as confirm.",
            errors: jumps.prefix(32).map {
                Refusal.FieldError(
                    location: $0.what, message: "moves from \($0.before) to \($0.after)",
                    fix: "Change the draft, or confirm it with the digest of its replay.")
            })
    }

    private func insertParts(of offer: TierOffer, _ id: TierVersionID) async throws {
        _ = try await connection.execute(InsertTierPrices(tierVersionID: id, rules: offer.rules))
        _ = try await connection.execute(InsertTierPriceBands(tierVersionID: id, rules: offer.rules))
        _ = try await connection.execute(InsertTierMultipliers(tierVersionID: id, multipliers: offer.multipliers))
        _ = try await connection.execute(InsertTierQuotas(tierVersionID: id, quotas: offer.quotas))
        _ = try await connection.execute(InsertTierRateLimits(tierVersionID: id, limits: offer.rateLimits))
    }

    private func deleteParts(of id: TierVersionID) async throws {
        _ = try await connection.execute(DeleteTierPrices(tierVersionID: id))
        _ = try await connection.execute(DeleteTierMultipliers(tierVersionID: id))
        _ = try await connection.execute(DeleteTierQuotas(tierVersionID: id))
        _ = try await connection.execute(DeleteTierRateLimits(tierVersionID: id))
    }
}

extension Refusal {
    fileprivate static func brokenPromise(_ quota: QuotaRule, _ location: String) -> Refusal {
        .invalid(
            location,
            "The pay-as-you-go quota of \(quota.unit.rawValue) a \(quota.frequency.rawValue) is not what a month includes.",
            fix: "Set included_\(quota.unit.rawValue) and the quota of a month to the same amount.")
    }

    static let unknownTier = Refusal(.notFound, "There is no such tier.")
    static let unknownTierVersion = Refusal(.notFound, "There is no such version of this tier.")
}
