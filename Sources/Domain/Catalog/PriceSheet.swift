/// What is counted and priced.
public enum Meter: String, Sendable, CaseIterable {
    case request
    case inputToken = "input_token"
    case cachedInputToken = "cached_input_token"
    case outputToken = "output_token"
}

/// The prices of one immutable tier version. A model without a price of its own takes the price of `*`; no price at all means free.
public final class PriceSheet: Sendable {
    public static let anyModel = "*"

    /// One row of the sheet.
    public struct Price: Hashable, Sendable {
        public let meter: Meter
        public let model: String
        public let unitPrice: UnitPrice

        public init(meter: Meter, model: String, unitPrice: UnitPrice) {
            self.meter = meter
            self.model = model
            self.unitPrice = unitPrice
        }
    }

    public let tierVersionID: TierVersionID
    /// The version as answers name it; made once, because every answer does.
    public let versionText: String
    public let tierCode: String
    public let version: Int32
    /// ISO 4217.
    public let currency: String
    /// What a hit of the cache is charged of the tokens of its answer, 0 to 100.
    public let cacheHitTokenPercent: Int64
    /// What is charged where the caller of a stream leaves; `nil` leaves it to the model.
    public let streamLeave: StreamLeave?
    public let requestTerms: RequestTerms
    /// By model, without `*`.
    private let rates: [String: Rates]
    private let anyModelRates: Rates

    /// One model's own prices; `nil` where the price of `*` counts.
    struct Rates: Sendable {
        private var request: UnitPrice?
        private var inputToken: UnitPrice?
        private var cachedInputToken: UnitPrice?
        private var outputToken: UnitPrice?

        subscript(meter: Meter) -> UnitPrice? {
            get {
                switch meter {
                case .request: request
                case .inputToken: inputToken
                case .cachedInputToken: cachedInputToken
                case .outputToken: outputToken
                }
            }
            set {
                switch meter {
                case .request: request = newValue
                case .inputToken: inputToken = newValue
                case .cachedInputToken: cachedInputToken = newValue
                case .outputToken: outputToken = newValue
                }
            }
        }
    }

    public init(
        tierVersionID: TierVersionID, tierCode: String, version: Int32, currency: String,
        cacheHitTokenPercent: Int64 = 100, streamLeave: StreamLeave? = nil, requestTerms: RequestTerms = .standard,
        prices: [Price]
    ) {
        self.streamLeave = streamLeave
        self.requestTerms = requestTerms
        self.cacheHitTokenPercent = cacheHitTokenPercent
        self.tierVersionID = tierVersionID
        versionText = tierVersionID.priceVersionText
        self.tierCode = tierCode
        self.version = version
        self.currency = currency
        var rates: [String: Rates] = [:]
        for price in prices { rates[price.model, default: Rates()][price.meter] = price.unitPrice }
        anyModelRates = rates.removeValue(forKey: Self.anyModel) ?? Rates()
        self.rates = rates
    }

    /// The sheet that follows from a version's terms: a request's own cost is what it would cost as the only one of its period, each unit at
    /// its leading price times its multiplier. What a period costs is rated from the terms themselves.
    public convenience init(
        terms: TierTerms, cacheHitTokenPercent: Int64 = 100, streamLeave: StreamLeave? = nil,
        requestTerms: RequestTerms = .standard
    ) {
        self.init(
            tierVersionID: terms.tierVersionID, tierCode: terms.tierCode, version: terms.version,
            currency: terms.currency, cacheHitTokenPercent: cacheHitTokenPercent, streamLeave: streamLeave,
            requestTerms: requestTerms, prices: terms.alonePrices)
    }

    public func price(of meter: Meter, model: String) -> UnitPrice {
        price(of: meter, own: rates[model])
    }

    private func price(of meter: Meter, own: Rates?) -> UnitPrice { own?[meter] ?? anyModelRates[meter] ?? .free }

    /// What ``amount(requests:usage:model:)`` adds up: one line for each meter that counted or has a price.
    public func lines(requests: Int64, usage: Usage, model: String) -> [Line] {
        let quantities: [(Meter, Int64)] = [
            (.request, requests), (.inputToken, usage.inputTokens - usage.cachedInputTokens),
            (.cachedInputToken, usage.cachedInputTokens), (.outputToken, usage.outputTokens),
        ]
        return quantities.map { Line(meter: $0, quantity: $1, unitPrice: price(of: $0, model: model)) }
            .filter { $0.quantity != 0 || $0.unitPrice != .free }
    }

    /// A quantity at its price.
    public struct Line: Hashable, Sendable {
        public let meter: Meter
        public let quantity: Int64
        public let unitPrice: UnitPrice

        /// Quantity times price, exact.
        public var amount: ExactAmount {
            var amount = ExactAmount()
            amount.add(quantity: quantity, at: unitPrice)
            return amount
        }
    }

    /// Rates quantities of one model, exactly; the caller rounds once per line.
    ///
    /// Cached input tokens are charged at their own price instead of the input price, not on top of it.
    public func amount(requests: Int64, usage: Usage, model: String) -> ExactAmount {
        let own = rates.isEmpty ? nil : rates[model]
        var amount = ExactAmount()
        amount.add(quantity: requests, at: price(of: .request, own: own))
        amount.add(quantity: usage.inputTokens - usage.cachedInputTokens, at: price(of: .inputToken, own: own))
        amount.add(quantity: usage.cachedInputTokens, at: price(of: .cachedInputToken, own: own))
        amount.add(quantity: usage.outputTokens, at: price(of: .outputToken, own: own))
        return amount
    }
}
