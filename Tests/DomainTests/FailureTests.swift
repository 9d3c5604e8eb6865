import Testing

@testable import Domain

@Suite("Failures") struct FailureTests {
    /// What customers' programs key on. A line of this table may be added; none may ever change.
    private static let frozen: [(String, Int)] = [
        ("result_gone", 410), ("range_not_satisfiable", 416), ("missing_key", 401), ("invalid_api_key", 401),
        ("wrong_plane", 403), ("tenant_suspended", 403),
        ("insufficient_scope", 403),
        ("model_not_allowed", 403), ("not_found", 404), ("model_not_found", 404), ("method_not_allowed", 405),
        ("bad_request", 400),
        ("invalid_json", 400), ("too_deep", 400), ("duplicate_key", 400), ("invalid_number", 400),
        ("forbidden_field", 400), ("unknown_field", 400),
        ("validation_failed", 422), ("forbidden_target", 422), ("conflict", 409), ("price_change_too_large", 409),
        ("idempotency_in_progress", 409),
        ("idempotency_mismatch", 422),
        ("request_timeout", 408), ("request_too_large", 413),
        ("uri_too_long", 414),
        ("unsupported_media_type", 415), ("unsupported_encoding", 415), ("expectation_failed", 417),
        ("headers_too_large", 431),
        ("http_version_not_supported", 505), ("quota_exceeded", 429), ("internal_error", 500), ("bad_upstream", 502),
        ("no_healthy_worker", 503), ("metering_unavailable", 503), ("storage_unavailable", 503), ("overloaded", 503),
        ("upstream_timeout", 504), ("not_cached", 504), ("invalid_tags", 400), ("rate_limited", 429),
        ("too_many_jobs", 429),
        ("client_closed", 499), ("pdf_unavailable", 503), ("balance_exhausted", 402),
    ]

    @Test("every code has the status that it always had", arguments: frozen)
    func status(code: String, status: Int) throws {
        #expect(try #require(FailureCode(rawValue: code)).httpStatus == status)
    }

    @Test("no code is missing from the frozen table")
    func complete() {
        #expect(Set(FailureCode.allCases.map(\.rawValue)) == Set(Self.frozen.map(\.0)))
    }

    @Test("titles are plain text and types are registered or blank", arguments: FailureCode.allCases)
    func title(code: FailureCode) {
        #expect(
            !code.title.isEmpty && code.title.utf8.allSatisfy { (0x20...0x7E).contains($0) && $0 != 0x22 && $0 != 0x5C }
        )
        #expect(
            code.typeURI
                == (code == .quotaExceeded || code == .rateLimited
                    ? "https://iana.org/assignments/http-problem-types#quota-exceeded" : "about:blank"))
    }

    @Test("a single invalid field is named in the detail and in the list")
    func invalid() {
        let refusal = Refusal.invalid("/features", "is missing", fix: "Send it.")
        #expect(refusal.code == .validationFailed)
        #expect(refusal.detail == "/features: is missing")
        #expect(refusal.errors == [.init(location: "/features", message: "is missing", fix: "Send it.")])
    }

    @Test("a service is ready when usage can be recorded, and says what it lacks")
    func health() {
        let all = HealthReport(postgres: .available, redis: .notConfigured, isSettlementAccepting: true, models: [:])
        #expect(all.isReady && all.degradations.isEmpty)
        let none = HealthReport(postgres: .unavailable, redis: .unavailable, isSettlementAccepting: false, models: [:])
        #expect(!none.isReady && none.degradations == ["postgres", "settlement", "redis"])
        let noRedis = HealthReport(postgres: .available, redis: .unavailable, isSettlementAccepting: true, models: [:])
        #expect(noRedis.isReady && noRedis.degradations == ["redis"])
    }
}
