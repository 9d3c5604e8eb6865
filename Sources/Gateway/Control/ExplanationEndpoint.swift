internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /api/v1/requests/{id}/explain`: why a request was admitted or blocked, and how its charge comes about, line by line.
struct ExplanationEndpoint: Sendable {
    let records: any CustomerRecords
    let prices: PriceBook

    func get(_ request: Request, _ context: ControlContext) async throws -> Response {
        guard let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text)
        else { throw Refusal.noSuchRequest }
        let tenantID = try context.caller.tenantID
        guard let explanation = try await records.explanation(of: id, tenantID: tenantID) else {
            guard let refusal = try await records.refusal(of: id, tenantID: tenantID) else {
                throw Refusal.noSuchRequest
            }
            return try .json(ExplanationAnswer(refusal))
        }
        var sheet: PriceSheet?
        if let id = explanation.row.tierVersionID { sheet = try await prices.sheet(id) }
        return try .json(ExplanationAnswer(explanation, sheet: sheet))
    }
}

extension Refusal {
    fileprivate static let noSuchRequest = Refusal(
        .notFound, "There is no such request, or it is not yours to see.")
}

private struct ExplanationAnswer: Encodable {
    let object = "request_explanation"
    let requestID: String
    let status: String
    let admission: Admission?
    let failure: Failure?
    let charge: Charge?
    let refusal: Refused?

    struct Admission: Encodable {
        let heldTokens: Int64
        let leaseID: String?
        /// Whether the record of the lease is still there; without it the policies are not known any more.
        let isLeaseKept: Bool
        let policies: [Policy]

        enum CodingKeys: String, CodingKey {
            case policies
            case isLeaseKept = "lease_kept"
            case heldTokens = "held_tokens"
            case leaseID = "lease_id"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(heldTokens, forKey: .heldTokens)
            try container.encode(leaseID, forKey: .leaseID)
            try container.encode(isLeaseKept, forKey: .isLeaseKept)
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
        /// `included` or `overage`; left out where it cannot be told.
        let part: String?

        enum CodingKeys: String, CodingKey {
            case policy, unit, mode, limit, granted, part
            case periodStart = "period_start"
            case periodEnd = "period_end"
        }
    }

    /// The numbers that refused it.
    struct Refused: Encodable {
        let refusedAt: String
        let model: String
        let policy: String
        let unit: String
        let limit: Int64
        /// Of a quota alone, as is what is held.
        let settled: Int64?
        let held: Int64?
        let remaining: Int64
        let requested: Int64
        /// Left out where waiting did not help.
        let retryAfterMilliseconds: Int64?
        /// Of a quota that begins anew.
        let periodStart: String?
        let periodEnd: String?

        enum CodingKeys: String, CodingKey {
            case model, policy, unit, limit, settled, held, remaining, requested
            case refusedAt = "refused_at"
            case retryAfterMilliseconds = "retry_after_ms"
            case periodStart = "period_start"
            case periodEnd = "period_end"
        }
    }

    struct Failure: Encodable {
        let code: String
        let message: String
        var charged = false
    }

    struct Charge: Encodable {
        let reason: Reason
        let priceVersion: String?
        let currency: String?
        let tokenSource: String
        let lines: [Line]
        /// The sum of the lines before its one rounding.
        let exactAmount: String?
        let costMicros: Int64?

        enum CodingKeys: String, CodingKey {
            case reason, currency, lines
            case priceVersion = "price_version"
            case tokenSource = "token_source"
            case exactAmount = "exact_amount"
            case costMicros = "cost_micros"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(reason, forKey: .reason)
            try container.encode(priceVersion, forKey: .priceVersion)
            try container.encode(currency, forKey: .currency)
            try container.encode(tokenSource, forKey: .tokenSource)
            try container.encode(lines, forKey: .lines)
            try container.encode(exactAmount, forKey: .exactAmount)
            try container.encode(costMicros, forKey: .costMicros)
        }
    }

    /// What a charge is for.
    enum Reason: String, Encodable {
        case answer
        case cacheHit = "cache_hit"
        /// A worker refused the input, and the tier charges that.
        case failedRequest = "failed_request"

        init(_ row: RequestRow) {
            self = row.errorCode != nil ? .failedRequest : row.isCached ? .cacheHit : .answer
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
        case object, status, admission, failure, charge, refusal
        case requestID = "request_id"
    }

    init(_ explanation: RequestExplanation, sheet: PriceSheet?) {
        let row = explanation.row
        requestID = row.id.publicText
        status = row.status
        admission = explanation.heldTokens.map { held in
            Admission(
                heldTokens: held, leaseID: explanation.leaseID?.description,
                isLeaseKept: explanation.leaseID == nil || !explanation.policies.isEmpty,
                policies: explanation.policies.map { Policy($0) })
        }
        failure = row.errorCode.map {
            Failure(
                code: $0, message: FailureCode(rawValue: $0)?.title ?? "The request failed", charged: row.billed != nil)
        }
        charge = row.billed.map { usage in
            let amount = sheet?.amount(requests: row.billedRequests, usage: usage, model: row.model)
            return Charge(
                reason: Reason(row),
                priceVersion: row.tierVersionID?.priceVersionText, currency: sheet?.currency,
                tokenSource: usage.source.rawValue,
                lines: sheet?.lines(requests: row.billedRequests, usage: usage, model: row.model).map { Line($0) }
                    ?? [],
                exactAmount: amount?.decimal, costMicros: amount?.rounded?.value)
        }
        refusal = nil
    }

    init(_ record: RefusalRecord) {
        let numbers = record.numbers
        requestID = record.requestID.publicText
        status = "refused"
        admission = nil
        charge = nil
        failure = Failure(code: record.code.rawValue, message: record.code.title)
        refusal = Refused(
            refusedAt: record.refusedAt.description, model: record.model, policy: numbers.policy,
            unit: numbers.unit.rawValue, limit: numbers.limit, settled: numbers.settled, held: numbers.held,
            remaining: numbers.remaining, requested: numbers.requested,
            retryAfterMilliseconds: numbers.retryAfterMilliseconds, periodStart: numbers.periodStart?.description,
            periodEnd: numbers.periodEnd?.description)
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
        try container.encode(refusal, forKey: .refusal)
    }
}

extension ExplanationAnswer.Policy {
    init(_ policy: RequestExplanation.Policy) {
        self.init(
            policy: policy.quota.policy, unit: policy.quota.unit.rawValue, mode: policy.quota.mode.rawValue,
            limit: policy.quota.amount, granted: policy.granted, periodStart: policy.periodStart.description,
            periodEnd: policy.quota.frequency.recurs ? policy.periodEnd.description : nil,
            part: policy.part?.rawValue)
    }
}

extension ExplanationAnswer.Line {
    init(_ line: PriceSheet.Line) {
        self.init(
            meter: line.meter.rawValue, quantity: line.quantity, unitPrice: line.unitPrice.description,
            amount: line.amount.decimal)
    }
}
