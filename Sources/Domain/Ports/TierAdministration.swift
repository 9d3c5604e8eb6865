/// What the operator does with tiers. Each verb is one transaction, its entry in the audit log included.
public protocol TierAdministration: Sendable {
    /// Makes a tier and publishes its first version.
    /// - Throws: `conflict` where the code is taken; `validation_failed` for an unknown tenant.
    func createTier(_ tier: NewTier, by actor: AuditActor) async throws(AdministrationFailure) -> TierRow
    /// By code, each with its version in force.
    func tiers(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<TierRow>
    /// A tier with its version in force.
    /// - Throws: `not_found`.
    func tier(_ code: String) async throws(AdministrationFailure) -> TierRow
    /// Newest first, drafts and retired ones included.
    /// - Throws: `not_found` for an unknown tier.
    func tierVersions(of code: String, _ page: PageRequest<Int32>) async throws(AdministrationFailure) -> Page<TierRow>
    /// - Throws: `not_found`.
    func tierVersion(_ name: TierVersionName) async throws(AdministrationFailure) -> TierRow
    /// Makes a draft, numbered behind the versions that are there.
    /// - Throws: `not_found`; `validation_failed` for another currency than the tier's.
    func draftTierVersion(of code: String, _ offer: TierOffer, by actor: AuditActor)
        async throws(AdministrationFailure) -> TierRow
    /// Replaces what a draft says.
    /// - Parameter old: what the caller saw.
    /// - Throws: `not_found`; `conflict` for what is no draft, and where the draft is not as the caller saw it.
    func changeTierDraft(_ name: TierVersionName, from old: TierOffer, to new: TierOffer, by actor: AuditActor)
        async throws(AdministrationFailure) -> TierRow
    /// - Throws: `not_found`; `conflict` for what is no draft.
    func deleteTierDraft(_ name: TierVersionName, by actor: AuditActor) async throws(AdministrationFailure)
    /// Publishes a draft. Who is subscribed to an earlier version keeps it.
    /// - Throws: `not_found`; `conflict` for what is no draft or older than what is published; `validation_failed` where it would have to
    ///   begin in the past, or promises what it does not include; `price_change_too_large`.
    func publishTierVersion(_ name: TierVersionName, _ publication: TierPublication, by actor: AuditActor)
        async throws(AdministrationFailure) -> TierRow
    /// Remembers what a replay found, so that a publication can name it.
    /// - Parameters:
    ///   - offer: what was replayed.
    ///   - result: JSON.
    ///   - isWhole: whether it is of all tenants of the tier up to the last month that is over; another one confirms nothing.
    /// - Returns: its digest.
    /// - Throws: `not_found`; `conflict` where the version is no more as it was replayed.
    func recordReplay(
        _ name: TierVersionName, of offer: TierOffer, result: String, isWhole: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> String
    /// The replays of a version as it is now, newest first: of a draft that changed since, those before are not among them.
    /// - Throws: `not_found`.
    func tierReplays(of name: TierVersionName, _ page: PageRequest<TierReplayID>) async throws(AdministrationFailure)
        -> Page<TierReplayRow>
    /// Takes a published version out of sale. Who is subscribed to it keeps it.
    /// - Throws: `not_found`; `conflict` for what is not published.
    func retireTierVersion(_ name: TierVersionName, by actor: AuditActor) async throws(AdministrationFailure)
        -> TierRow
}

/// Reads what a customer may subscribe to.
public protocol TierCatalog: Sendable {
    /// The versions in force of the tiers that everybody may take and of those made for this tenant, by code.
    func tiers(for tenant: TenantID) async throws(StoreUnavailable) -> [TierRow]
    /// A version that the tenant is on or was on.
    func tierVersion(_ id: TierVersionID, for tenant: TenantID) async throws(StoreUnavailable) -> TierRow?
}

/// A version of a tier as people name it.
public struct TierVersionName: Hashable, Sendable {
    public let code: String
    /// From 1 upwards within the tier.
    public let number: Int32

    public init(code: String, number: Int32) {
        self.code = code
        self.number = number
    }
}

/// What is said when a draft is published.
public struct TierPublication: Hashable, Sendable {
    /// By how much a price, fee or included amount may move without a word.
    public let factor: Int64
    /// The digest of a replay of this very draft over all tenants of the tier up to the last month that is over, which says that its effect was seen.
    public let confirmation: String?

    public init(factor: Int64, confirmation: String? = nil) {
        self.factor = factor
        self.confirmation = confirmation
    }
}

/// A replay that was made.
public struct TierReplayRow: Hashable, Sendable {
    public let id: TierReplayID
    public let digest: String
    /// Whether the digest confirms a publication now.
    public let confirms: Bool
    /// JSON, as it was answered.
    public let result: String
    public let createdAt: Timestamp

    public init(id: TierReplayID, digest: String, confirms: Bool, result: String, createdAt: Timestamp) {
        self.id = id
        self.digest = digest
        self.confirms = confirms
        self.result = result
        self.createdAt = createdAt
    }
}

/// A tier to be made, with its first version.
public struct NewTier: Hashable, Sendable {
    public let code: String
    public let name: String
    /// The one tenant that may take it; `nil` means every one.
    public let tenantID: TenantID?
    public let offer: TierOffer

    public init(code: String, name: String, tenantID: TenantID? = nil, offer: TierOffer) {
        self.code = code
        self.name = name
        self.tenantID = tenantID
        self.offer = offer
    }

    /// A tier of flat prices alone.
    public init(
        code: String, name: String, currency: String, baseFee: Micros, prices: [PriceSheet.Price], quotas: [QuotaRule],
        rateLimits: [RateLimitRule] = [], cacheHitTokenPercent: Int64 = 100, streamLeave: StreamLeave? = nil,
        resultTTLSeconds: Int64 = 86_400
    ) {
        self.init(
            code: code, name: name,
            offer: TierOffer(
                currency: currency, baseFee: baseFee, cacheHitTokenPercent: cacheHitTokenPercent,
                streamLeave: streamLeave, resultTTLSeconds: resultTTLSeconds,
                rules: prices.map { PriceRule(meter: $0.meter, model: $0.model, price: .flat($0.unitPrice)) },
                quotas: quotas, rateLimits: rateLimits))
    }
}

/// A tier with one of its versions.
public struct TierRow: Hashable, Sendable {
    public enum State: String, Sendable, CaseIterable {
        case draft
        case published
        case retired
    }

    public struct Version: Hashable, Sendable {
        public let id: TierVersionID
        /// From 1 upwards within the tier.
        public let number: Int32
        public let state: State
        public let offer: TierOffer
        public let createdAt: Timestamp
        /// `nil` for a draft.
        public let publishedAt: Timestamp?

        public init(
            id: TierVersionID, number: Int32, state: State, offer: TierOffer, createdAt: Timestamp,
            publishedAt: Timestamp? = nil
        ) {
            self.id = id
            self.number = number
            self.state = state
            self.offer = offer
            self.createdAt = createdAt
            self.publishedAt = publishedAt
        }
    }

    public let code: String
    public let name: String
    /// The one tenant that may take it; `nil` means every one.
    public let tenantID: TenantID?
    /// Where no version was asked for: the newest published one that is in force; where there is none, the newest that was published.
    public let version: Version
    public let createdAt: Timestamp

    public init(code: String, name: String, tenantID: TenantID? = nil, version: Version, createdAt: Timestamp) {
        self.code = code
        self.name = name
        self.tenantID = tenantID
        self.version = version
        self.createdAt = createdAt
    }

    /// The terms by which a bill of this version is rated.
    public var terms: TierTerms { version.offer.terms(version.id, code: code, version: version.number) }
}
