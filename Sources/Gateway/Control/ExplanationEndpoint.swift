internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/requests/{id}/explain`: why a request was admitted or blocked, and how its charge comes about, line by line.
struct ExplanationEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text),
            let explanation = try await records.explanation(of: id, tenantID: try context.caller.tenantID)
        else { throw Refusal(.notFound, "There is no such request, or it is not yours to see.") }
        var sheet: PriceSheet?
        if let id = explanation.row.tierVersionID { sheet = try await prices.sheet(id) }
        return try .json(ExplanationAnswer(explanation, sheet: sheet))
    }
}

private struct ExplanationAnswer: Encodable {
    let object = "request_explanation"
    let requestID: String
    let status: String
    let admission: Admission?
    let failure: Failure?
    let charge: Charge?

    struct Admission: Encodable {
        let heldTokens: Int64
        let leaseID: String?
        let policies: [Policy]

        enum CodingKeys: String, CodingKey {
            case policies
            case heldTokens = "held_tokens"
            case leaseID = "lease_id"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(heldTokens, forKey: .heldTokens)
            try container.encode(leaseID, forKey: .leaseID)
            try container.encode(policies, forKey: .policies)
        }
    }

    struct Policy: Encodable {
        let policy: String
        let unit: String
        let mode: String
        let limit: Int64
        let granted: Int64
        let periodStart: String
        /// Left out where the period has no end.
        let periodEnd: String?

        enum CodingKeys: String, CodingKey {
            case policy, unit, mode, limit, granted
            case periodStart = "period_start"
            case periodEnd = "period_end"
        }
    }

    struct Failure: Encodable {
        let code: String
        let message: String
        let charged = false
    }

    struct Charge: Encodable {
        let priceVersion: String?
        let currency: String?
        let tokenSource: String
        let lines: [Line]
        /// The sum of the lines before its one rounding.
        let exactAmount: String?
        let costMicros: Int64?

        enum CodingKeys: String, CodingKey {
            case currency, lines
            case priceVersion = "price_version"
            case tokenSource = "token_source"
            case exactAmount = "exact_amount"
            case costMicros = "cost_micros"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(priceVersion, forKey: .priceVersion)
            try container.encode(currency, forKey: .currency)
            try container.encode(tokenSource, forKey: .tokenSource)
            try container.encode(lines, forKey: .lines)
            try container.encode(exactAmount, forKey: .exactAmount)
            try container.encode(costMicros, forKey: .costMicros)
        }
    }

    struct Line: Encodable {
        let meter: String
        let quantity: Int64
        let unitPrice: String
        let amount: String

        enum CodingKeys: String, CodingKey {
            case meter, quantity, amount
            case unitPrice = "unit_price"
        }
    }

    enum CodingKeys: String, CodingKey {
        case object, status, admission, failure, charge
        case requestID = "request_id"
    }

    init(_ explanation: RequestExplanation, sheet: PriceSheet?) {
        let row = explanation.row
        requestID = row.id.publicText
        status = row.status
        admission = explanation.heldTokens.map { held in
            Admission(
                heldTokens: held, leaseID: explanation.leaseID?.description,
                policies: explanation.policies.map { Policy($0) })
        }
        failure = row.errorCode.map {
            Failure(code: $0, message: FailureCode(rawValue: $0)?.title ?? "The request failed")
        }
        charge = row.billed.map { usage in
            let amount = sheet?.amount(requests: 1, usage: usage, model: row.model)
            return Charge(
                priceVersion: row.tierVersionID?.priceVersionText, currency: sheet?.currency,
                tokenSource: usage.source.rawValue,
                lines: sheet?.lines(requests: 1, usage: usage, model: row.model).map { Line($0) } ?? [],
                exactAmount: amount?.decimal, costMicros: amount?.rounded?.value)
        }
    }

    /// What does not apply is present and null, so that a reader need not ask whether it is there.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(object, forKey: .object)
        try container.encode(requestID, forKey: .requestID)
        try container.encode(status, forKey: .status)
        try container.encode(admission, forKey: .admission)
        try container.encode(failure, forKey: .failure)
        try container.encode(charge, forKey: .charge)
    }
}

extension ExplanationAnswer.Policy {
    init(_ policy: RequestExplanation.Policy) {
        self.init(
            policy: policy.quota.policy, unit: policy.quota.unit.rawValue, mode: policy.quota.mode.rawValue,
            limit: policy.quota.amount, granted: policy.granted, periodStart: policy.periodStart.description,
            periodEnd: policy.quota.frequency.recurs ? policy.periodEnd.description : nil)
    }
}

extension ExplanationAnswer.Line {
    init(_ line: PriceSheet.Line) {
        self.init(
            meter: line.meter.rawValue, quantity: line.quantity, unitPrice: line.unitPrice.description,
            amount: line.amount.decimal)
    }
}
