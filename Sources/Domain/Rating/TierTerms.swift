/// Everything in a tier version that decides what a period costs. Immutable, as the version is.
public final class TierTerms: Sendable {
    /// One model's own multiplier for one meter.
    public struct ModelMultiplier: Hashable, Sendable {
        public let meter: Meter
        public let model: String
        public let multiplier: Multiplier

        public init(meter: Meter, model: String, multiplier: Multiplier) {
            self.meter = meter
            self.model = model
            self.multiplier = multiplier
        }
    }

    public let tierVersionID: TierVersionID
    public let tierCode: String
    public let version: Int32
    /// ISO 4217.
    public let currency: String
    /// For a whole period; a part of one costs the same part of it.
    public let baseFee: Micros
    /// The least that a whole period costs, base fee and usage together.
    public let minimumCommitment: Micros
    /// What a whole period includes before prices begin, in units as they are priced.
    public let includedRequests: Int64
    public let includedTokens: Int64
    public let rules: [PriceRule]
    public let multipliers: [ModelMultiplier]
    /// What a hit of the cache is charged of its tokens, 0 to 100. It is taken when a request settles; the ledger's tokens are less it.
    public let cacheHitTokenPercent: Int64
    /// What is charged where the caller of a stream leaves. Taken when a request settles, too.
    public let streamLeave: StreamLeave?
    public let requestTerms: RequestTerms
    private let ruleOf: [Place: PriceModel]
    private let multiplierOf: [Place: Multiplier]

    private struct Place: Hashable {
        let meter: Meter
        let model: String
    }

    public init(
        tierVersionID: TierVersionID, tierCode: String, version: Int32, currency: String, baseFee: Micros = .zero,
        minimumCommitment: Micros = .zero, includedRequests: Int64 = 0, includedTokens: Int64 = 0,
        rules: [PriceRule] = [], multipliers: [ModelMultiplier] = [], cacheHitTokenPercent: Int64 = 100,
        streamLeave: StreamLeave? = nil, requestTerms: RequestTerms = .standard
    ) {
        self.tierVersionID = tierVersionID
        self.tierCode = tierCode
        self.version = version
        self.currency = currency
        self.baseFee = baseFee
        self.minimumCommitment = minimumCommitment
        self.includedRequests = includedRequests
        self.includedTokens = includedTokens
        self.rules = rules
        self.multipliers = multipliers
        self.cacheHitTokenPercent = cacheHitTokenPercent
        self.streamLeave = streamLeave
        self.requestTerms = requestTerms
        ruleOf = Dictionary(
            rules.map { (Place(meter: $0.meter, model: $0.model), $0.price) }, uniquingKeysWith: { first, _ in first })
        multiplierOf = Dictionary(
            multipliers.map { (Place(meter: $0.meter, model: $0.model), $0.multiplier) },
            uniquingKeysWith: { first, _ in first })
    }

    /// What prices a model's meter: its own rule, or that of all models, or nothing, which is free.
    /// - Returns: the model that the rule names, under which quantities are priced together, and the price.
    public func rule(of meter: Meter, model: String) -> (group: String, price: PriceModel) {
        if let own = ruleOf[Place(meter: meter, model: model)] { return (model, own) }
        return (PriceSheet.anyModel, ruleOf[Place(meter: meter, model: PriceSheet.anyModel)] ?? .flat(.free))
    }

    public func multiplier(of meter: Meter, model: String) -> Multiplier {
        multiplierOf[Place(meter: meter, model: model)] ?? .one
    }
}
