import Domain
import Foundation
import TestSupport
import Testing

@testable import Gateway

@Suite("Control plane", .serialized, .timeLimit(.minutes(2))) struct ControlPlaneTests {
    private func object(_ answer: RawConnection.Response) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any])
    }

    private func row(
        _ number: UInt64, status: String = "completed",
        billed: Usage? = Usage(inputTokens: 7, outputTokens: 3, source: .worker), result: String? = nil,
        error: String? = nil
    ) -> RequestRow {
        RequestRow(
            id: RequestID(high: 0x0195_a3c0_11aa_7000, low: 0x8000_0000_0000_0000 | number), keyID: Installation.keyID,
            model: "iris", modelVersion: "1", status: status, httpStatus: 200, errorCode: error,
            createdAt: Timestamp(microsecondsSince1970: 1_772_366_400_123_456),
            completedAt: Timestamp(microsecondsSince1970: 1_772_366_400_223_456), processingMicroseconds: 100_999,
            tierVersionID: Installation.tier, isCached: false, billed: billed,
            result: result)
    }

    @Test(
        "a path is answered by its methods, and others are told which",
        arguments: [
            ("GET", "/predict", 405, "POST"), ("DELETE", "/predict/", 405, "POST"), ("HEAD", "/predict", 405, "POST"),
            ("POST", "/healthz", 405, "GET, HEAD"), ("PUT", "/api/v1/usage", 405, "GET, HEAD"),
            ("OPTIONS", "/", 405, "GET, HEAD"),
            ("GET", "/nowhere", 404, ""), ("POST", "/predict/x", 404, ""), ("POST", "/Predict", 404, ""),
            ("GET", "/api/v1/", 404, ""), ("POST", "/api/v1/requests/abc", 405, "GET, HEAD"),
            ("POST", "//predict", 404, ""), ("GET", "/healthz/%2e%2e/", 404, ""),
        ] as [(String, String, Int, String)])
    func routing(method: String, path: String, status: Int, allow: String) async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get(path, method: method))
            let answer = try await connection.response(hasBody: method != "HEAD")
            #expect(answer.status == status)
            #expect((answer.field("allow") ?? "") == allow)
            #expect(answer.code == (status == 405 ? "method_not_allowed" : "not_found"))
        }
    }

    @Test("HEAD is answered like GET, without the body")
    func head() async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            for path in ["/", "/healthz", "/api/v1/requests"] {
                try await connection.write(gateway.get(path, method: "HEAD"))
                #expect(try await connection.response(hasBody: false).status == 200)
            }
            try await connection.write(gateway.get("/healthz"))
            #expect(try await connection.response().body == #"{"alive":true}"#, "nothing of a body came between")
        }
    }

    @Test("health tells the states apart")
    func health() async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            func get(_ path: String) async throws -> RawConnection.Response {
                try await connection.write("GET \(path) HTTP/1.1\r\nhost: a\r\n\r\n")
                return try await connection.response()
            }
            #expect(try await get("/readyz").status == 200)
            #expect(try object(try await get("/health"))["status"] as? String == "healthy")
            #expect(try await get("/openapi.yaml").body == "openapi: 3.1.0\n")
            gateway.parts.health.set(
                HealthReport(
                    postgres: .unavailable, redis: .unavailable, isSettlementAccepting: false, models: ["iris": false]))
            let ready = try await get("/readyz")
            #expect(ready.status == 503 && ready.field("retry-after") == "2")
            #expect(try object(ready)["degraded"] as? [String] == ["postgres", "settlement", "redis"])
            let overview = try await get("/health")
            #expect(overview.status == 200)
            #expect(try object(overview)["status"] as? String == "degraded")
            #expect(try await get("/healthz").status == 200)
        }
    }

    @Test(
        "who may not read is refused",
        arguments: [
            ("", 401, "missing_key"), ("authorization: Bearer x", 401, "invalid_api_key"),
            ("SCOPE", 403, "insufficient_scope"), ("ADMIN", 403, "wrong_plane"),
        ] as [(String, Int, String)])
    func access(field: String, status: Int, code: String) async throws {
        let parts = await Installation(time: SystemTime())
        let predictOnly = parts.addKey(Installation.principal(scopes: [.predict])).revealed
        let admin = try parts.addAdminKey().revealed
        let line =
            switch field {
            case "SCOPE": "authorization: Bearer \(predictOnly)\r\n"
            case "ADMIN": "authorization: Bearer \(admin)\r\n"
            case "": ""
            default: field + "\r\n"
            }
        try await RunningGateway.with(parts) { gateway in
            for path in ["/api/v1/requests", "/api/v1/usage", "/status/x"] {
                let connection = try gateway.connect()
                try await connection.write("GET \(path) HTTP/1.1\r\nhost: a\r\n\(line)\r\n")
                let answer = try await connection.response()
                #expect(answer.status == status && answer.code == code)
                #expect((answer.field("www-authenticate") != nil) == (status == 401))
            }
        }
    }

    @Test("requests are paged both ways without loss")
    func pages() async throws {
        let parts = await Installation(time: SystemTime())
        for number in 1...25 { parts.records.add(row(UInt64(number)), of: Installation.tenant) }
        parts.records.add(row(99), of: TenantID(high: 9, low: 9))
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            func page(_ query: String) async throws -> (ids: [String], hasMore: Bool, first: String, last: String) {
                try await connection.write(gateway.get("/api/v1/requests?limit=10\(query)"))
                let object = try self.object(try await connection.response())
                let ids = (object["data"] as? [[String: Any]] ?? []).compactMap { $0["id"] as? String }
                return (
                    ids, object["has_more"] as? Bool ?? false, object["first_id"] as? String ?? "",
                    object["last_id"] as? String ?? ""
                )
            }
            let first = try await page("")
            let second = try await page("&after=\(first.last)")
            let third = try await page("&after=\(second.last)")
            #expect(
                first.ids.count == 10 && first.hasMore && second.ids.count == 10 && second.hasMore
                    && third.ids.count == 5 && !third.hasMore)
            #expect(Set(first.ids + second.ids + third.ids).count == 25)
            let back = try await page("&before=\(third.first)")
            #expect(back.ids == second.ids && back.hasMore)
            let start = try await page("&before=\(second.first)")
            #expect(start.ids == first.ids && !start.hasMore)
        }
    }

    @Test(
        "a query that is not understood is refused",
        arguments: [
            "/api/v1/requests?limit=0", "/api/v1/requests?limit=101", "/api/v1/requests?limit=+5",
            "/api/v1/requests?limit=x", "/api/v1/requests?limit=1&limit=2", "/api/v1/requests?page=1",
            "/api/v1/requests?after=x",
            "/api/v1/requests?after=req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e&before=req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e",
            "/api/v1/requests?status=done", "/api/v1/requests?model=A", "/api/v1/usage?start=2026-03-01",
            "/api/v1/usage?start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z",
            "/api/v1/usage?start=2026-03-01T00:00:00Z&end=2026-03-01T00:00:00Z", "/api/v1/usage?group_by=hour,day",
            "/api/v1/usage?group_by=tag,key", "/api/v1/usage?group_by=week",
            "/api/v1/usage?start=2024-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&group_by=hour",
            "/api/v1/usage?start=2026-03-01T00:07:00Z", "/api/v1/usage?end=2036-03-01T00:15:00.000001Z",
            "/api/v1/usage?group_by=day,day", "/api/v1/usage?group_by=",
            "/api/v1/usage?start=2020-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&group_by=day",
            "/api/v1/usage?end=1969-12-31T23:59:59Z", "/api/v1/quota?x=1",
        ])
    func badQuery(path: String) async throws {
        try await RunningGateway.with(await Installation(time: SystemTime())) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get(path))
            let answer = try await connection.response()
            #expect(answer.status == 422 && answer.code == "validation_failed")
        }
    }

    @Test("a request is shown to its owner alone, with what it cost")
    func one() async throws {
        let parts = await Installation(time: SystemTime())
        let mine = row(1, result: #"{"prediction":9007199254740993,"probabilities":[0.5,null]}"#)
        let failed = row(2, status: "failed", billed: nil, error: "upstream_timeout")
        let foreign = row(3)
        parts.records.add(mine, of: Installation.tenant)
        parts.records.add(failed, of: Installation.tenant)
        parts.records.add(foreign, of: TenantID(high: 9, low: 9))
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            func get(_ path: String) async throws -> RawConnection.Response {
                try await connection.write(gateway.get(path))
                return try await connection.response()
            }
            let shown = try object(try await get("/api/v1/requests/\(mine.id.publicText)"))
            #expect(
                shown["cost_micros"] as? Int == 1_130 && shown["currency"] as? String == "EUR"
                    && shown["processing_time_ms"] as? Int == 100)
            #expect(shown["created_at"] as? String == "2026-03-01T12:00:00.123456Z")
            let unbilled = try object(try await get("/api/v1/requests/\(failed.id)"))
            #expect(
                unbilled["usage"] is NSNull && unbilled["cost_micros"] as? Int == 0
                    && unbilled["error_code"] as? String == "upstream_timeout")
            let status = try await get("/status/\(mine.id.publicText)")
            #expect(status.body.contains(#""result":{"prediction":9007199254740993,"probabilities":[0.5,null]}"#))
            let failure = try object(try await get("/status/\(failed.id.publicText)"))
            #expect((failure["error"] as? [String: String])?["code"] == "upstream_timeout")
            for id in [foreign.id.publicText, "req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e", "x", "%00", "req_"] {
                #expect(try await get("/api/v1/requests/\(id)").status == 404)
                #expect(try await get("/status/\(id)").status == 404)
            }
        }
    }

    @Test("usage is asked for by local days and rated")
    func usage() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.set(usage: [
            UsageRow(
                day: 0, model: "iris", tierVersionID: Installation.tier, keyID: nil, requests: 2, inputTokens: 10,
                cachedInputTokens: 0, outputTokens: 0),
            UsageRow(
                day: 2, model: "iris", tierVersionID: Installation.tier, keyID: nil, requests: 1, inputTokens: 0,
                cachedInputTokens: 0, outputTokens: 5),
        ])
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(
                gateway.get(
                    "/api/v1/usage?start=2026-03-28T12:00:00%2B01:00&end=2026-03-30T12:00:00Z&group_by=day,model"))
            let object = try self.object(try await connection.response())
            let lines = try #require(object["data"] as? [[String: Any]])
            #expect(lines.map { $0["day"] as? String } == ["2026-03-28", "2026-03-30"])
            #expect(lines.map { $0["cost_micros"] as? Int } == [2_100, 1_100])
            #expect((object["total"] as? [String: Any])?["cost_micros"] as? Int == 3_200)
            #expect(object["currency"] as? String == "EUR" && object["time_zone"] as? String == "Europe/Berlin")
            let days = try #require(gateway.parts.records.usageQueries.first).days
            #expect(
                days.map(\.start.description) == [
                    "2026-03-28T11:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z",
                ])
            #expect(
                days.map(\.end.description) == ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T12:00:00Z"])
        }
    }

    @Test("a quota shows its numbers, never less than nothing available")
    func quota() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.set(quotas: [QuotaState(quota: Installation.quota(.requests, 10), settled: 12, held: 3)])
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get("/api/v1/quota"))
            let lines = try #require(try object(try await connection.response())["data"] as? [[String: Any]])
            #expect(lines.map { $0["policy"] as? String } == ["requests-month", "tokens-month"])
            #expect(lines.map { $0["available"] as? Int } == [0, 1_000_000])
            #expect(lines.map { $0["limit"] as? Int } == [10, 1_000_000])
        }
    }

    @Test("the quota report shows rate limits with the numbers of the headers")
    func rateLimits() async throws {
        let limits = RateLimits(
            tenant: ScopeLimits(requests: RateLimit(amount: 600, burst: 50)),
            key: ScopeLimits(concurrency: RateLimit(amount: 3)))
        let parts = await Installation(
            time: SystemTime(), principal: Installation.principal(rateLimits: limits))
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            try await connection.write(gateway.get("/api/v1/quota"))
            let report = try object(try await connection.response())
            let lines = try #require(report["rate_limits"] as? [[String: Any]])
            #expect(lines.map { $0["policy"] as? String } == ["rpm", "key-concurrency"])
            #expect(lines.map { $0["scope"] as? String } == ["tenant", "key"])
            #expect(lines.map { $0["unit"] as? String } == ["requests", "concurrency"])
            #expect(lines.map { $0["limit"] as? Int } == [600, 3] && lines.map { $0["remaining"] as? Int } == [50, 3])
            #expect(lines.map { $0["burst"] as? Int } == [50, nil])
            #expect(lines.map { $0["window_seconds"] as? Int } == [60, nil])
            #expect(lines.map { $0["reset_seconds"] as? Int } == [0, nil])
            #expect(lines.map { $0["mode"] as? String } == ["in_process", "in_process"], "there is no Redis")
            #expect((report["data"] as? [Any])?.count == 2 && report["object"] as? String == "list")
        }
    }

    @Test("with the database away a reader is told to come back, and nothing of the cause")
    func away() async throws {
        let parts = await Installation(time: SystemTime())
        parts.records.isAway = true
        try await RunningGateway.with(parts) { gateway in
            let connection = try gateway.connect()
            for path in [
                "/api/v1/requests", "/api/v1/usage", "/api/v1/quota",
                "/status/req_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e",
            ] {
                try await connection.write(gateway.get(path))
                let answer = try await connection.response()
                #expect(
                    answer.status == 503 && answer.code == "storage_unavailable" && answer.field("retry-after") == "2")
                #expect(!answer.body.contains("records are away"))
            }
        }
    }

    @Test("the catalogue knows the methods of every path")
    func catalogue() {
        #expect(RouteCatalog.methods(for: "/predict/") == ["POST"])
        #expect(RouteCatalog.methods(for: "/api/v1/requests/x") == ["GET", "HEAD"])
        #expect(RouteCatalog.methods(for: "/") == ["GET", "HEAD"])
        #expect(RouteCatalog.methods(for: "/api/v1/requests/x/y").isEmpty)
    }
}
