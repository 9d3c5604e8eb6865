import Domain
import Foundation
import TestSupport
import Testing

@testable import Gateway

@Suite("Usage in the shape of OpenAI's API, and the summary of a period")
struct OrganizationUsageTests {
    private let base = "/v1/organization/usage/completions?start_time=1772323200&end_time=1772582400"

    private func object(_ response: RawConnection.Response) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(response.body.utf8)) as? [String: Any])
    }

    private func row(day: Int, model: String = "iris", requests: Int64 = 2) -> UsageRow {
        UsageRow(
            day: day, model: model, tierVersionID: Installation.tier, keyID: nil, requests: requests, inputTokens: 10,
            cachedInputTokens: 4, outputTokens: 3)
    }

    @Test("buckets are whole days, those without use too, and pages go on where the last one ended")
    func completions() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.set(usage: [row(day: 0), row(day: 0, model: "other"), row(day: 1)])
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get(base + "&limit=2&group_by=model"))
            let first = try object(try await connection.response())
            #expect(first["object"] as? String == "page" && first["has_more"] as? Bool == true)
            let buckets = try #require(first["data"] as? [[String: Any]])
            #expect(buckets.map { $0["start_time"] as? Int } == [1_772_323_200, 1_772_409_600])
            let results = try #require(buckets[0]["results"] as? [[String: Any]])
            #expect(results.map { $0["model"] as? String } == ["iris", "other"])
            #expect(results[0]["num_model_requests"] as? Int == 2 && results[0]["input_cached_tokens"] as? Int == 4)
            #expect(results[0]["user_id"] is NSNull)
            let page = try #require(first["next_page"] as? String)
            parts.records.set(usage: [])
            try await connection.write(gateway.get(base + "&limit=2&group_by=model&page=\(page)"))
            let second = try object(try await connection.response())
            let rest = try #require(second["data"] as? [[String: Any]])
            #expect(rest.map { $0["start_time"] as? Int } == [1_772_496_000])
            #expect(second["next_page"] is NSNull && (rest[0]["results"] as? [Any])?.isEmpty == true)
            // The same page of another question.
            try await connection.write(gateway.get(base + "&limit=2&page=\(page)"))
            #expect(try await connection.response().status == 400)
        }
    }

    /// 2 requests at 1,000 micros, 10 - 4 tokens at 10 and 3 at 20; cached ones have no price.
    private let expected: Int64 = 2_120

    @Test("costs are decimals, exact to the micro-unit")
    func costs() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.set(usage: [row(day: 0)])
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                gateway.get("/v1/organization/costs?start_time=1772323200&end_time=1772409600"))
            let answer = try await connection.response()
            #expect(answer.status == 200)
            let data = try #require(try object(answer)["data"] as? [[String: Any]])
            let result = try #require((data[0]["results"] as? [[String: Any]])?.first)
            let amount = try #require(result["amount"] as? [String: Any])
            #expect(amount["amount_micros"] as? Int64 == expected)
            #expect(answer.body.contains(#""value":\#(Decimal(expected) / 1_000_000)"#))
            #expect(answer.body.contains(#""object":"organization.costs.result""#))
        }
    }

    @Test(
        "what cannot be told is refused in that API's form",
        arguments: [
            "&bucket_width=1m", "&bucket_width=1w", "&limit=0", "&limit=32", "&page=page_1_1", "&page=",
            "&group_by=tag",
            "&start_time=1", "&colour=red", "&end_time=",
        ])
    func refused(more: String) async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get(base + more))
            let answer = try await connection.response()
            #expect(answer.status == 400)
            let error = try #require(try object(answer)["error"] as? [String: Any])
            #expect(error["type"] as? String == "invalid_request_error")
        }
    }

    @Test("the summary tells what the period costs so far, what is left of what is included, and its end")
    func summary() async throws {
        let parts = await Installation(time: SystemTime())
        let now = SystemTime().now
        let calendar = PeriodCalendar(timeZone: "Europe/Berlin") ?? .utc
        let period = calendar.period(containing: now, frequency: .month)
        let terms = TierTerms(
            tierVersionID: Installation.tier, tierCode: "pro", version: 1, currency: "EUR", baseFee: Micros(5_000_000),
            includedRequests: 100)
        parts.records.set(
            hours: [],
            ratingInput: RatingInput(
                spans: [SubscriptionSpan(tierVersionID: Installation.tier, start: period.start, end: period.end)],
                usage: [
                    UsageQuantity(
                        tierVersionID: Installation.tier, model: "iris", requests: 30, inputTokens: 1, outputTokens: 1)
                ], terms: [Installation.tier: terms]))
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get("/api/v1/usage/summary"))
            let answer = try object(try await connection.response())
            #expect(answer["period_id"] as? String == period.id)
            #expect((answer["so_far"] as? [String: Any])?["cost_micros"] as? Int == 5_000_000)
            let included = try #require(answer["included"] as? [[String: Any]])
            #expect(included.count == 1 && included[0]["left"] as? Int == 70)
            let forecast = try #require(answer["forecast"] as? [String: Any])
            #expect(forecast["request_error_basis_points"] is NSNull && forecast["compared_periods"] as? Int == 0)
        }
    }
}
