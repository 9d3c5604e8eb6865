import Crypto
import Domain
import NIOCore
import Testing

@testable import Gateway

@Suite("what is kept")
struct KeptPartsTests {
    private func principal(_ retention: Retention, bytes: Int = 100, generation: Int32 = 0, tenant: UInt64 = 1)
        -> Principal
    {
        Principal(
            tenantID: TenantID(high: tenant, low: 1), keyID: KeyID(high: 1, low: 1), userID: nil, scopes: [],
            allowedModels: nil, environment: .live, tierVersionID: TierVersionID(high: 1, low: 1), quotas: [],
            timeZone: "UTC", retention: retention, retentionBytes: bytes, retentionGeneration: generation)
    }

    private func parts(_ policy: Principal, prompt: String = "prompt", result: String? = "result", type: String? = nil)
        -> KeptParts
    {
        KeptParts(
            under: policy, prompt: ByteBuffer(string: prompt).readableBytesView, text: { Array(prompt.utf8) },
            mediaType: type
        ) {
            result.map { Array($0.utf8) }
        }
    }

    private func digest(_ text: String) -> [UInt8] { Array(SHA256.hash(data: Array(text.utf8))) }

    @Test("the policy decides")
    func policies() {
        let full = parts(principal(.full))
        #expect(full.prompt == Array("prompt".utf8) && full.promptDigest == nil)
        #expect(full.result == Array("result".utf8) && full.resultDigest == digest("result") && full.resultID != nil)
        let hashed = parts(principal(.hashed))
        #expect(hashed.prompt == nil && hashed.promptDigest == digest("prompt"))
        #expect(hashed.result == nil && hashed.resultDigest == digest("result") && hashed.resultID == nil)
        let none = parts(principal(.none))
        #expect(none.prompt == nil && none.promptDigest == nil && none.result == nil && none.resultDigest == nil)
    }

    @Test("at the bound the content is kept, above it the digest")
    func bound() {
        let at = parts(principal(.full, bytes: 6))
        #expect(at.prompt != nil && at.result != nil)
        let above = parts(principal(.full, bytes: 5))
        #expect(above.prompt == nil && above.promptDigest == digest("prompt"))
        #expect(above.result == nil && above.resultDigest == digest("result") && above.resultID == nil)
    }

    @Test("of a request that failed there is no result")
    func failed() {
        let kept = parts(principal(.full), result: nil)
        #expect(kept.result == nil && kept.resultDigest == nil && kept.resultID == nil)
    }

    @Test("equal contents have one id; another tenant, generation, type or content has another")
    func ids() {
        let one = parts(principal(.full)).resultID
        #expect(one == parts(principal(.full), prompt: "another").resultID)
        let others = [
            parts(principal(.full, tenant: 2)), parts(principal(.full, generation: 1)),
            parts(principal(.full), type: "image/png"), parts(principal(.full), result: "other"),
        ].map(\.resultID)
        #expect(Set(others + [one]).count == 5)
        #expect(one.map { $0.high >> 12 & 0xF == 8 && $0.low >> 62 == 2 } == true)
    }

    @Test(
        "the types that are passed on",
        arguments: [
            ("image/png", "image/png"), ("IMAGE/PNG; q=1", "image/png"), ("audio/x-wav", "audio/x-wav"),
            ("application/octet-stream", "application/octet-stream"), ("application/x-npy", "application/x-npy"),
            ("image/svg+xml", "image/svg+xml"),
            ("text/html", nil), ("text/plain", nil), ("application/json", nil), ("application/javascript", nil),
            ("image/", nil), ("image/a/b", nil), ("image/\r\nx", nil), ("", nil),
            ("image/" + String(repeating: "a", count: 100), nil),
        ] as [(String, String?)])
    func mediaTypes(field: String, expected: String?) {
        #expect(BinaryAnswer.mediaType(field) == expected)
    }

    @Test("a cursor comes back as the place that it was made of, and so does an id")
    func cursors() {
        for id in [
            RequestID(high: 0, low: 0), RequestID(high: .max, low: .max),
            RequestID(high: 0x0195_a3c0_11aa_7000, low: 0x8000_0000_0000_0001),
        ] {
            #expect(RequestCursor.id(RequestCursor.text(id)) == id)
            #expect(RequestCursor.id(id.publicText) == id)
        }
        for text in ["cur_", "cur_" + String(repeating: "z", count: 26), "cur_x", "", "req_"] {
            #expect(RequestCursor.id(text) == nil)
        }
    }
}
