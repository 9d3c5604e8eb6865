import Domain

extension FakeAdministration {
    func createTier(_ tier: NewTier, by actor: AuditActor) async throws(AdministrationFailure) -> TierRow {
        try note("createTier", actor) { $0.newTier = tier }
        return Self.tierRow(tier)
    }

    func tiers(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<TierRow> {
        try self.page("tiers", page, Self.tierRow(nil))
    }

    func tier(_ code: String) async throws(AdministrationFailure) -> TierRow {
        try note("tier")
        return Self.tierRow(nil)
    }

    func tierVersions(
        of code: String, _ page: PageRequest<Int32>
    ) async throws(AdministrationFailure) -> Page<TierRow> {
        try self.page("tierVersions", page, Self.tierRow(nil))
    }

    func tierVersion(_ name: TierVersionName) async throws(AdministrationFailure) -> TierRow {
        try note("tierVersion")
        return Self.tierRow(nil, number: name.number, state: .draft, offer: last.oldOffer)
    }

    func draftTierVersion(
        of code: String, _ offer: TierOffer, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try note("draftTierVersion", actor) { $0.offer = offer }
        return Self.tierRow(nil, number: 2, state: .draft, offer: offer)
    }

    func changeTierDraft(
        _ name: TierVersionName, from old: TierOffer, to new: TierOffer, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try note("changeTierDraft", actor) {
            $0.oldOffer = old
            $0.offer = new
        }
        return Self.tierRow(nil, number: name.number, state: .draft, offer: new)
    }

    func deleteTierDraft(_ name: TierVersionName, by actor: AuditActor) async throws(AdministrationFailure) {
        try note("deleteTierDraft", actor)
    }

    func publishTierVersion(
        _ name: TierVersionName, _ publication: TierPublication, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try note("publishTierVersion", actor) { $0.publication = publication }
        return Self.tierRow(nil, number: name.number)
    }

    func recordReplay(
        _ name: TierVersionName, of offer: TierOffer, result: String, isWhole: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> String {
        try note("recordReplay", actor)
        return String(repeating: "0", count: 64)
    }

    func tierReplays(
        of name: TierVersionName, _ page: PageRequest<TierReplayID>
    ) async throws(AdministrationFailure) -> Page<TierReplayRow> {
        try self.page(
            "tierReplays", page,
            TierReplayRow(
                id: TierReplayID(high: 0x0195_0000_0000_7000, low: 0x8000_0000_0000_0F01),
                digest: String(repeating: "0", count: 64), confirms: true, result: "{}", createdAt: Self.instant))
    }

    func retireTierVersion(
        _ name: TierVersionName, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TierRow {
        try note("retireTierVersion", actor)
        return Self.tierRow(nil, number: name.number, state: .retired)
    }
}
