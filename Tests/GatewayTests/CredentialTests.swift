import HTTPListener
import NIOHTTP1
import Testing

@testable import Gateway

@Suite("What a head presents") struct CredentialTests {
    @Test(
        "a key may come in three fields, and two different ones are no key",
        arguments: [
            ([], Credentials.none), ([("Authorization", "Bearer k1")], .one(Array("k1".utf8))),
            ([("authorization", "bearer   k1")], .one(Array("k1".utf8))),
            ([("AUTHORIZATION", "BEARER k1")], .one(Array("k1".utf8))),
            ([("x-api-key", "k1")], .one(Array("k1".utf8))), ([("API-Key", "k1")], .one(Array("k1".utf8))),
            ([("authorization", "Bearer k1"), ("x-api-key", "k1")], .one(Array("k1".utf8))),
            ([("authorization", "Bearer k1"), ("x-api-key", "k2")], .conflicting),
            ([("authorization", "Bearer k1"), ("authorization", "Bearer k2")], .unusable),
            ([("authorization", "Basic dTpw")], .unusable), ([("authorization", "Bearer")], .unusable),
            ([("authorization", "")], .unusable),
            ([("authorization", "Basic dTpw"), ("x-api-key", "k1")], .conflicting), ([("x-api-key", "")], .one([])),
            ([("my-api-key", "k1"), ("apikey", "k1")], .none), ([("authorization", "Bearerk1")], .unusable),
        ] as [([(String, String)], Credentials)])
    func credentials(fields: [(String, String)], expected: Credentials) {
        #expect(RequestFields(HTTPHeaders(fields)).credentials == expected)
    }

    @Test(
        "a trace is continued only if it is one",
        arguments: [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true), ("", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false),
            ("00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01", false),
            ("00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0\r", false),
        ] as [(String, Bool)])
    func trace(parent: String, isValid: Bool) {
        #expect((TraceContext(parent: parent, state: nil)?.parent == parent) == isValid)
    }

    @Test(
        "a trace's state goes on if it can do no harm",
        arguments: [
            ("a=b,c=d", true), ("a=b\r\nx: y", false), ("é", false), (String(repeating: "a", count: 512), true),
            (String(repeating: "a", count: 513), false),
        ] as [(String, Bool)])
    func traceState(state: String, isKept: Bool) {
        let trace = TraceContext(parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state: state)
        #expect(trace?.state == (isKept ? state : nil))
    }
}
