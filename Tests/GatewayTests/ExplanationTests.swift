import Domain
import Foundation
import TestSupport
import Testing

@testable import Gateway

@Suite("Explanations and quotes", .timeLimit(.minutes(2))) struct ExplanationTests {
    private func object(_ answer: RawConnection.Response) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any])
    }

    private static let quota = Quota(
        id: QuotaID(high: 1, low: 1), unit: .tokens, frequency: .month, amount: 1_000, mode: .hard)

    private func row(status: String, billed: Usage?, error: String?) -> RequestRow {
        RequestRow(
            id: RequestID(high: 0x0195_a3c0_11aa_7000, low: 0x8000_0000_0000_0001), keyID: Installation.keyID,
            model: "iris", modelVersion: "1", status: status, httpStatus: 200, errorCode: error,
            createdAt: Timestamp(microsecondsSince1970: 1_772_366_400_123_456),
            completedAt: Timestamp(microsecondsSince1970: 1_772_366_400_223_456), processingMicroseconds: 100_999,
            tierVersionID: Installation.tier, isCached: false, billed: billed, result: nil)
    }

    @Test("a charge is the sum of its lines, and names what admitted it")
    func charged() async throws {
        let parts = await Installation(time: SystemTime())
        let usage = Usage(inputTokens: 7, cachedInputTokens: 2, outputTokens: 3, source: .worker)
        let start = Timestamp(microsecondsSince1970: 1_772_323_200_000_000)
        parts.records.add(
            RequestExplanation(
                row: row(status: "completed", billed: usage, error: nil), heldTokens: 117,
                leaseID: LeaseID(high: 5, low: 6),
                policies: [
                    .init(
                        quota: Self.quota, periodStart: start,
                        periodEnd: start.advanced(byMilliseconds: 2_678_400_000), granted: 250)
                ]), of: Installation.tenant)
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                gateway.get("/api/v1/requests/req_0195a3c0-11aa-7000-8000-000000000001/explain"))
            let answer = try await connection.response()
            #expect(answer.status == 200)
            let object = try object(answer)
            let admission = try #require(object["admission"] as? [String: Any])
            #expect(admission["held_tokens"] as? Int == 117)
            let policy = try #require((admission["policies"] as? [[String: Any]])?.first)
            #expect(policy["policy"] as? String == "tokens-month" && policy["granted"] as? Int == 250)
            #expect(object["failure"] is NSNull)
            let charge = try #require(object["charge"] as? [String: Any])
            #expect(charge["token_source"] as? String == "worker")
            let lines = try #require(charge["lines"] as? [[String: Any]])
            let meters = lines.compactMap { $0["meter"] as? String }
            #expect(meters == ["request", "input_token", "cached_input_token", "output_token"])
            #expect(lines.compactMap { $0["quantity"] as? Int } == [1, 5, 2, 3])
            let sum = try lines.map { try #require(Decimal(string: $0["amount"] as? String ?? "")) }.reduce(0, +)
            #expect(try sum == #require(Decimal(string: charge["exact_amount"] as? String ?? "")))
        }
    }

    @Test("a failed request says why and that it is not charged")
    func failed() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.add(row(status: "failed", billed: nil, error: "upstream_timeout"), of: Installation.tenant)
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                gateway.get("/api/v1/requests/req_0195a3c0-11aa-7000-8000-000000000001/explain"))
            let object = try object(try await connection.response())
            let failure = try #require(object["failure"] as? [String: Any])
            #expect(failure["code"] as? String == "upstream_timeout" && failure["charged"] as? Bool == false)
            #expect(object["charge"] is NSNull && object["admission"] is NSNull)
        }
    }

    @Test(
        "a request that was refused before it cost anything is explained by the numbers that decided, to its tenant alone"
    )
    func refused() async throws {
        let parts = await Installation(time: SystemTime())
        let quota = QuotaRefusal(
            quota: Self.quota,
            period: PeriodCalendar.utc.period(
                containing: Timestamp(microsecondsSince1970: 1_772_366_400_000_000), frequency: .month),
            settled: 900, held: 90, requested: 40)
        let numbers = try #require(
            Refusal.quotaExceeded(quota, at: Timestamp(microsecondsSince1970: 1_775_001_599_000_000)).decidingNumbers)
        for (tenant, low) in [(Installation.tenant, UInt64(1)), (TenantID(high: 9, low: 9), 2)] {
            parts.records.add(
                RefusalRecord(
                    requestID: RequestID(high: 0x0195_a3c0_11aa_7000, low: 0x8000_0000_0000_0000 | low),
                    tenantID: tenant, keyID: Installation.keyID, model: "iris", code: .quotaExceeded,
                    refusedAt: Timestamp(microsecondsSince1970: 1_772_366_400_000_000), numbers: numbers))
        }
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get("/api/v1/requests/req_0195a3c0-11aa-7000-8000-000000000002/explain"))
            let foreign = try await connection.response()
            #expect(foreign.status == 404 && foreign.code == "not_found")
            try await connection.write(gateway.get("/api/v1/requests/req_0195a3c0-11aa-7000-8000-000000000001/explain"))
            let answer = try await connection.response()
            #expect(answer.status == 200)
            let object = try object(answer)
            #expect(object["status"] as? String == "refused")
            #expect(object["charge"] is NSNull && object["admission"] is NSNull)
            let failure = try #require(object["failure"] as? [String: Any])
            #expect(failure["code"] as? String == "quota_exceeded" && failure["charged"] as? Bool == false)
            let refusal = try #require(object["refusal"] as? [String: Any])
            #expect(refusal["policy"] as? String == "tokens-month" && refusal["unit"] as? String == "tokens")
            #expect(
                ["limit", "settled", "held", "remaining", "requested"].map { refusal[$0] as? Int64 }
                    == [1_000, 900, 90, 10, 40])
            #expect(refusal["retry_after_ms"] as? Int64 == 1_000)
            #expect(refusal["period_end"] as? String == "2026-04-01T00:00:00Z")
        }
    }

    @Test(
        "a quote tells how much of it would lie beyond a limit that does not refuse",
        arguments: [
            (QuotaMode.payAsYouGo, 0, 0, "overage"), (.payAsYouGo, 1_000, nil, "overage"), (.soft, 5_000, nil, "over"),
        ] as [(QuotaMode, Int64, Int64?, String)])
    func quoteBeyond(mode: QuotaMode, settled: Int64, beyond: Int64?, name: String) async throws {
        let parts = await Installation(time: SystemTime())
        let quota = Quota(id: Self.quota.id, unit: .tokens, frequency: .month, amount: 1_000, mode: mode)
        let key = parts.addKey(Installation.principal(quotas: [quota])).revealed
        parts.records.set(quotas: [QuotaState(quota: quota, settled: settled, held: 0)])
        let body = #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                "POST /api/v1/quote HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \(key)\r\n"
                    + "content-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)")
            let object = try object(try await connection.response())
            #expect(object["admission"] as? String == "free")
            let policy = try #require((object["policies"] as? [[String: Any]])?.first)
            #expect(policy[name] as? Int64 == beyond ?? policy["requested"] as? Int64)
            #expect(policy[name == "over" ? "overage" : "over"] == nil)
        }
    }

    @Test("another tenant's request, an unknown one and a malformed id get the same answer")
    func notFound() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.add(row(status: "completed", billed: nil, error: nil), of: TenantID(high: 9, low: 9))
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            for id in ["req_0195a3c0-11aa-7000-8000-000000000001", "req_0195a3c0-11aa-7000-8000-000000000002", "x"] {
                try await connection.write(gateway.get("/api/v1/requests/\(id)/explain"))
                let answer = try await connection.response()
                #expect(answer.status == 404 && answer.code == "not_found")
            }
        }
    }

    @Test(
        "a quote tells whether there is room, and takes nothing",
        arguments: [(0, 0, "free"), (400, 590, "held"), (995, 0, "none")] as [(Int64, Int64, String)])
    func quote(settled: Int64, held: Int64, room: String) async throws {
        let parts = await Installation(time: SystemTime())
        let key = parts.addKey(Installation.principal(quotas: [Self.quota])).revealed
        parts.records.set(quotas: [QuotaState(quota: Self.quota, settled: settled, held: held)])
        let body = #"{"model":"iris","features":[5.1,3.5,1.4,0.2]}"#
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                "POST /api/v1/quote HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \(key)\r\n"
                    + "content-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)")
            let answer = try await connection.response()
            #expect(answer.status == 200)
            let object = try object(answer)
            #expect(object["admission"] as? String == room)
            #expect(object["rows"] as? Int == 1)
            let most = try #require(object["tokens_at_most"] as? Int)
            #expect(most >= body.utf8.count)
            let policy = try #require((object["policies"] as? [[String: Any]])?.first)
            #expect(policy["requested"] as? Int == most)
            #expect(policy["available"] as? Int64 == max(0, 1_000 - settled - held))
        }
        #expect(parts.backend.calls.isEmpty && parts.settler.settlements.isEmpty)
    }

    @Test(
        "a quote refuses what a prediction refuses",
        arguments: [
            ("application/json", "{", 400, "invalid_json"), ("text/plain", "{}", 415, "unsupported_media_type"),
            ("application/json", #"{"model":"none","features":[1]}"#, 404, "model_not_found"),
            ("application/json", #"{"model":"iris","features":[1]}"#, 422, "validation_failed"),
        ] as [(String, String, Int, String)])
    func refusedQuote(type: String, body: String, status: Int, code: String) async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            let fields = ["content-type: \(type)", "content-length: \(body.utf8.count)"]
            try await connection.write(gateway.get("/api/v1/quote", method: "POST", fields: fields) + body)
            let answer = try await connection.response()
            #expect(answer.status == status && answer.code == code, "\(answer.body)")
        }
    }
}
