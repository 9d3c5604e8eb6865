import Domain
import Foundation
import TestSupport
import Testing

@testable import Gateway

@Suite("Usage as a file")
struct UsageTableTests {
    private func row(
        day: Int = 0, model: String = "iris", tag: String? = nil, key: KeyID? = nil, user: UserID? = nil,
        requests: Int64 = 2
    ) -> UsageRow {
        UsageRow(
            day: day, model: model, tierVersionID: Installation.tier, keyID: key, userID: user, tag: tag,
            requests: requests, inputTokens: 10, cachedInputTokens: 4, outputTokens: 3)
    }

    private func answer(
        _ rows: [UsageRow], _ query: String, accept: String? = nil
    ) async throws -> (response: RawConnection.Response, query: UsageQuery?) {
        let parts = await Installation(time: SystemTime())
        parts.records.set(usage: rows)
        return try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            let path = "/api/v1/usage?start=2026-03-28T00:00:00Z&end=2026-03-30T00:00:00Z\(query)"
            try await connection.write(gateway.get(path, fields: accept.map { ["accept: \($0)"] } ?? []))
            return (try await connection.response(), gateway.parts.records.usageQueries.first)
        }
    }

    @Test(
        "its columns are those of the groups in their order, the currency and the quantities; a line's are those of JSON"
    )
    func columns() async throws {
        let (key, user) = (KeyID(high: 7, low: 7), UserID(high: 8, low: 8))
        let rows = [row(key: key, user: user), row(day: 1, key: key), row(day: 1, key: key, requests: 1)]
        let (file, query) = try await answer(rows, "&group_by=key,day,user,model,tier&format=csv")
        #expect(file.field("content-type") == "text/csv; charset=utf-8; header=present")
        #expect(file.field("content-disposition") == "attachment; filename=\"usage.csv\"")
        #expect(file.field("x-weir-next-page") == nil && file.field("cache-control") == "no-store")
        #expect(
            file.body.components(separatedBy: "\r\n") == [
                "day,tier,model,user_id,key_id,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros",
                "2026-03-28,pro,iris,\(user),\(key),EUR,2,10,4,3,2120",
                "2026-03-29,pro,iris,,\(key),EUR,3,20,8,6,3240", "",
            ])
        #expect(try #require(query).groupsByKey && query?.groupsByUser == true && query?.groupsByTag == false)
        let (json, _) = try await answer(rows, "&group_by=key,day,user,model,tier&format=json", accept: "text/csv")
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.body.utf8)) as? [String: Any])
        let lines = try #require(object["data"] as? [[String: Any]])
        #expect(lines.map { $0["cost_micros"] as? Int } == [2_120, 3_240])
        #expect(lines.map { $0["user_id"] as? String } == [user.description, nil])
    }

    @Test("a name or a tag that a spreadsheet would run is a text, and one with a comma is in quotes")
    func formulas() async throws {
        let rows = ["=cmd|'/c calc'!A1", "+1", "-2+3", "@SUM(A1)", "a,\"b\""].map { row(model: $0) }
        let (models, _) = try await answer(rows, "&group_by=model", accept: "text/csv")
        #expect(
            models.body.components(separatedBy: "\r\n").dropFirst().dropLast().map { $0.replacing(/,EUR,.*/, with: "") }
                == [
                    "'+1", "'-2+3", "'=cmd|'/c calc'!A1", "'@SUM(A1)", "\"a,\"\"b\"\"\"",
                ])
        let (tags, _) = try await answer([row(tag: "=team=x")], "&group_by=tag&format=csv")
        #expect(tags.body.hasSuffix("\r\n'=team=x,EUR,2,10,4,3,2120\r\n"))
    }

    @Test("a form that there is not is refused, and an Accept of another is answered as JSON")
    func forms() async throws {
        for query in ["&format=xml", "&format=", "&format=CSV", "&format=csv&format=csv"] {
            let (refused, _) = try await answer([], query)
            #expect(refused.status == 422 && refused.code == "validation_failed", "\(query)")
        }
        let (other, _) = try await answer([], "", accept: "application/xml")
        #expect(other.status == 200 && other.field("content-type") == "application/json")
    }
}
