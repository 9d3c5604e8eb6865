import Domain
import Hummingbird
import Testing

@testable import Admin

@Suite("The cache on the admin listener") struct CacheRouteTests {
    @Test("a policy is set whole, with defaults for what is left out")
    func policy() async throws {
        let admin = AdminUnderTest()
        let answer = try await admin.send("PUT", "/admin/v1/models/iris/cache", body: #"{"enabled": true}"#)
        #expect(answer.status == 200 && admin.administration.last.cachePolicy == CachePolicy(isOn: true))
        let body =
            #"{"enabled": true, "ttl_seconds": 5, "maximum_ttl_seconds": 9, "sameness": "canonical_json","#
            + #""levels": ["memory", "table"], "generations": "deterministic"}"#
        _ = try await admin.send("PUT", "/admin/v1/models/iris/cache", body: body)
        #expect(
            admin.administration.last.cachePolicy
                == CachePolicy(
                    isOn: true, ttlSeconds: 5, maximumTTLSeconds: 9, sameness: .canonicalJSON,
                    levels: .init(redis: false, table: true), generations: .deterministic))
    }

    @Test(
        "a policy that cannot be meant is refused",
        arguments: [
            "{}", #"{"enabled": 1}"#, #"{"enabled": true, "ttl_seconds": -1}"#,
            #"{"enabled": true, "levels": ["redis"]}"#, #"{"enabled": true, "sameness": "nearly"}"#,
            #"{"enabled": true, "generations": "some"}"#,
            #"{"enabled": true, "ttl_seconds": 10, "maximum_ttl_seconds": 5}"#,
        ])
    func wrongPolicy(body: String) async throws {
        let admin = AdminUnderTest()
        #expect(try await admin.send("PUT", "/admin/v1/models/iris/cache", body: body).status == 422)
        #expect(admin.administration.last.cachePolicy == nil)
    }

    @Test("a clearing says whose entries are meant")
    func clear() async throws {
        let admin = AdminUnderTest()
        let tenant = FakeAdministration.tenantID
        for (body, expected) in [
            (
                #"{"tenant_id": "\#(tenant)", "pattern": "user1_*"}"#,
                NewCacheClearing(tenantID: tenant, model: nil, pattern: "user1_*")
            ),
            (
                #"{"tenant_id": "\#(tenant)", "model": "iris", "key": "user1_a"}"#,
                NewCacheClearing(tenantID: tenant, model: "iris", pattern: "user1_a")
            ),
            (#"{"model": "iris"}"#, NewCacheClearing(tenantID: nil, model: "iris", pattern: nil)),
        ] {
            #expect(try await admin.send("POST", "/admin/v1/cache/clear", body: body).status == 200)
            #expect(admin.administration.last.clearing == expected)
        }
        for body in [
            "{}", #"{"pattern": "*"}"#, #"{"model": "iris", "key": "a"}"#, #"{"tenant_id": "x"}"#,
            #"{"tenant_id": "\#(tenant)", "key": "a*"}"#, #"{"tenant_id": "\#(tenant)", "key": "a", "pattern": "b"}"#,
        ] { #expect(try await admin.send("POST", "/admin/v1/cache/clear", body: body).status == 422, "\(body)") }
    }

    @Test("statistics can be of one tenant or model")
    func statistics() async throws {
        let admin = AdminUnderTest()
        let tenant = FakeAdministration.tenantID
        let answer = try await admin.send("GET", "/admin/v1/cache/stats?tenant_id=\(tenant)&model=iris")
        #expect(answer.status == 200)
        #expect(
            admin.administration.last.statisticsQuery
                == CacheStatisticsQuery(tenantID: tenant, model: "iris", limit: 1_000))
        #expect(answer.text.contains(#""hits":7"#))
        #expect(try await admin.send("GET", "/admin/v1/cache/stats?model=A").status == 422)
    }
}
