internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// `POST /api/v1/quote`: the dry run of a prediction. Says what the very same body could cost at most and whether the quotas have room for
/// it, calls no worker and charges nothing.
struct QuoteEndpoint: Sendable {
    let records: any CustomerRecords
    let routes: RouteDirectory
    let prices: PriceBook
    let quota: QuotaKeeper
    let maximumBodyBytes: Int
    let estimates: TokenEstimates

    func post(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        _ = try QueryParameters(request, allowed: [])
        if let coding = request.headers[.contentEncoding], coding.lowercased() != "identity" {
            throw Refusal(.unsupportedEncoding, "Compressed bodies are not accepted. Send the body as it is.")
        }
        guard let type = request.headers[.contentType], MediaType.isJSON(type) else {
            throw Refusal(.unsupportedMediaType, "The body must be JSON. Send content-type: application/json.")
        }
        let body = try await request.body.collect(upTo: maximumBodyBytes)
        let predict = try InferencePipeline.validate(
            body, for: caller, target: CallTarget(surface: Surface(quoted: body)), routes: routes)
        let route = try InferencePipeline.route(of: predict, for: caller, in: routes.current.table)
        let bound = InferencePipeline.tokenBound(predict, route.profile)
        let calendar = PeriodCalendar(timeZone: caller.timeZone) ?? .utc
        let now = quota.now(of: caller.tenantID)
        let periods = caller.quotas.map { ($0, calendar.period(containing: now, of: $0)) }
        let states =
            periods.isEmpty
            ? []
            : try await records.quotaStates(tenantID: caller.tenantID, periods: periods.map { ($0.0.id, $0.1) })
        let policies = periods.map { quota, period in
            QuoteAnswer.Policy(
                quota, state: states.first { $0.quota.id == quota.id },
                requested: quota.need(tokens: bound),
                resetsAt: quota.frequency.recurs ? period.end.description : nil)
        }
        let version = caller.tierVersionID(at: now)
        let sheet = try await prices.sheet(version)
        return try .json(
            QuoteAnswer(
                request: predict, route: route, bound: bound,
                expected: estimates.expectedTokens(of: route.model, requestBytes: predict.byteCount),
                tier: version, sheet: sheet,
                policies: policies))
    }
}

private struct QuoteAnswer: Encodable {
    let object = "quote"
    let model: String
    let version: String
    let rows: Int
    let tokensAtMost: Int64
    /// Left out before the model's workers have reported anything.
    let tokensExpected: Int64?
    let priceVersion: String
    let currency: String?
    let unitPrices: [String: String]
    let costMicrosAtMost: Int64?
    let admission: Room
    let policies: [Policy]

    /// Whether a quota has room for the request.
    enum Room: String, Encodable {
        /// Free for any gateway.
        case free
        /// Only within what gateways hold at the moment, for requests in flight or to come.
        case held
        case none
    }

    struct Policy: Encodable {
        let policy: String
        let unit: String
        let mode: String
        let limit: Int64
        let settled: Int64
        let held: Int64
        let available: Int64
        let requested: Int64
        let room: Room
        let resetsAt: String?
        /// How many of the units would lie beyond what the price includes; of pay-as-you-go alone.
        let overage: Int64?
        /// How many would lie beyond the limit; of a soft quota alone.
        let over: Int64?

        enum CodingKeys: String, CodingKey {
            case policy, unit, mode, limit, settled, held, available, requested, room, overage, over
            case resetsAt = "resets_at"
        }

        init(_ quota: Quota, state: QuotaState?, requested: Int64, resetsAt: String?) {
            policy = quota.policy
            unit = quota.unit.rawValue
            mode = quota.mode.rawValue
            limit = state?.quota.amount ?? quota.amount
            settled = state?.settled ?? 0
            held = state?.held ?? 0
            available = max(0, limit - settled - held)
            self.requested = requested
            self.resetsAt = resetsAt
            let beyond = quota.with(amount: limit).beyond(units: requested, after: settled)
            overage = quota.mode == .payAsYouGo ? beyond : nil
            over = quota.mode == .soft ? beyond : nil
            if !quota.mode.refuses || requested <= available {
                room = .free
            } else {
                room = requested <= max(0, limit - settled) ? .held : .none
            }
        }
    }

    enum CodingKeys: String, CodingKey {
        case object, model, version, rows, currency, admission, policies
        case tokensAtMost = "tokens_at_most"
        case tokensExpected = "tokens_expected"
        case priceVersion = "price_version"
        case unitPrices = "unit_prices"
        case costMicrosAtMost = "cost_micros_at_most"
    }

    init(
        request: InferenceRequest, route: ResolvedRoute, bound: Int64, expected: Int64?, tier: TierVersionID,
        sheet: PriceSheet?,
        policies: [Policy]
    ) {
        model = request.model
        version = route.version
        rows = Int(clamping: request.rowCount)
        tokensAtMost = bound
        tokensExpected = expected.map { min($0, bound) }
        priceVersion = tier.priceVersionText
        currency = sheet?.currency
        unitPrices = Dictionary(
            uniqueKeysWithValues: Meter.allCases.map {
                ($0.rawValue, (sheet?.price(of: $0, model: route.model) ?? .free).description)
            })
        costMicrosAtMost = sheet.flatMap { Self.mostExpensive($0, bound: bound, model: route.model) }
        admission =
            policies.contains { $0.room == .none } ? .none : policies.contains { $0.room == .held } ? .held : .free
        self.policies = policies
    }

    /// All tokens at the price of the dearest kind: how a worker will divide them is not known.
    private static func mostExpensive(_ sheet: PriceSheet, bound: Int64, model: String) -> Int64? {
        let kinds: [Meter] = [.inputToken, .cachedInputToken, .outputToken]
        let dearest = kinds.map { sheet.price(of: $0, model: model) }.max { $0.picos < $1.picos } ?? .free
        var amount = ExactAmount()
        amount.add(quantity: 1, at: sheet.price(of: .request, model: model))
        amount.add(quantity: bound, at: dearest)
        return amount.rounded?.value
    }
}
