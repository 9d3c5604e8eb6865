internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `POST /admin/v1/adjustments` and `PUT /admin/v1/tenants/{id}/prepaid`: corrections of what was charged, and who pays ahead.
struct AdjustmentsEndpoint: Sendable {
    let adjustments: (any AdjustmentRecords)?
    let prepaid: (any PrepaidRecords)?

    /// Of an entry of the ledger.
    private static let range: ClosedRange<Int64> = -1_000_000_000_000...1_000_000_000_000

    func post(_ call: AdminCall) async throws -> Response {
        guard let adjustments else { throw Refusal(.notFound, "This server has no ledger.") }
        let input = try await RequestBodyReader.object(
            call,
            fields: ["request_id", "requests", "input_tokens", "cached_input_tokens", "output_tokens", "reason"])
        let request = input.required("request_id", .requestID)
        let numbers = ["requests", "input_tokens", "cached_input_tokens", "output_tokens"].map {
            input.optional($0, .integer(Self.range)) ?? 0
        }
        let reason = input.required("reason", .text(length: 1...500))
        if numbers.allSatisfy({ $0 == 0 }) {
            input.problems.add("", "changes nothing", fix: "Send a quantity that is not zero.")
        }
        try input.problems.check()
        guard let request, let reason else { throw input.problems.refusal }
        let row = try await adjustments.adjust(
            NewAdjustment(
                requestID: request, requests: numbers[0], inputTokens: numbers[1], cachedInputTokens: numbers[2],
                outputTokens: numbers[3], reason: reason), by: call.actor)
        return try .json(AdjustmentAnswer(row), status: .created)
    }

    func setPrepaid(_ call: AdminCall) async throws -> Response {
        guard let prepaid else { throw Refusal(.notFound, "This server has no prepaid tenants.") }
        let tenant = try call.tenantID()
        let input = try await RequestBodyReader.object(call, fields: ["prepaid"])
        let isPrepaid = input.required("prepaid", .boolean)
        try input.problems.check()
        guard let isPrepaid else { throw input.problems.refusal }
        return try .json(PrepaidAnswer(try await prepaid.setPrepaid(tenant, isPrepaid, by: call.actor)))
    }
}

private struct AdjustmentAnswer: Encodable {
    let object = "adjustment"
    let id: String
    let requestID: String
    let tenantID: String
    let requests: Int64
    let inputTokens: Int64
    let cachedInputTokens: Int64
    let outputTokens: Int64
    let reason: String

    enum CodingKeys: String, CodingKey {
        case object, id, requests, reason
        case requestID = "request_id"
        case tenantID = "tenant_id"
        case inputTokens = "input_tokens"
        case cachedInputTokens = "cached_input_tokens"
        case outputTokens = "output_tokens"
    }

    init(_ row: AdjustmentRow) {
        id = row.entryID.publicText
        requestID = row.adjustment.requestID.publicText
        tenantID = row.tenantID.description
        requests = row.adjustment.requests
        inputTokens = row.adjustment.inputTokens
        cachedInputTokens = row.adjustment.cachedInputTokens
        outputTokens = row.adjustment.outputTokens
        reason = row.adjustment.reason
    }
}

private struct PrepaidAnswer: Encodable {
    let object = "prepaid"
    let tenantID: String
    let prepaid: Bool
    let exhausted: Bool

    enum CodingKeys: String, CodingKey {
        case object, prepaid, exhausted
        case tenantID = "tenant_id"
    }

    init(_ standing: PrepaidStanding) {
        tenantID = standing.tenantID.description
        prepaid = standing.isPrepaid
        exhausted = standing.isExhausted
    }
}

extension InputRule where Value == Domain.RequestID {
    fileprivate static var requestID: InputRule {
        InputRule(expectation: "a request's id", fix: "Take the request_id of its answer.") { value in
            guard case .string(let text) = value else { return nil }
            return Domain.RequestID(publicText: text)
        }
    }
}
