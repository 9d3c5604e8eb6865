import Domain
import Testing

@Suite("which price version a request has")
struct TierEdgeTests {
    private static let old = TierVersionID(high: 1, low: 1)
    private static let new = TierVersionID(high: 1, low: 2)
    private static let edge = Timestamp(microsecondsSince1970: 1_772_323_200_000_000)

    private static func principal(_ edge: TierEdge?, known: TierVersionID = old) -> Principal {
        Principal(
            tenantID: TenantID(high: 1, low: 3), keyID: KeyID(high: 1, low: 4), userID: nil, scopes: [.predict],
            allowedModels: nil, environment: .live, tierVersionID: known, quotas: [], timeZone: "UTC", retention: .none,
            tierEdge: edge)
    }

    @Test("its arrival decides, whether the key was read ahead of the change or behind it", arguments: [old, new])
    func arrival(known: TierVersionID) {
        let principal = Self.principal(TierEdge(at: Self.edge, before: Self.old, after: Self.new), known: known)
        let before = Timestamp(microsecondsSince1970: Self.edge.microsecondsSince1970 - 1)
        #expect(principal.tierVersionID(at: before) == Self.old)
        #expect(principal.tierVersionID(at: Self.edge) == Self.new)
        #expect(principal.tierVersionID(at: Self.edge.advanced(byMilliseconds: 1_000)) == Self.new)
    }

    @Test("without a change it is the one in force")
    func none() {
        #expect(Self.principal(nil).tierVersionID(at: Self.edge) == Self.old)
        #expect(Self.principal(nil, known: Self.new).tierVersionID(at: Self.edge) == Self.new)
    }
}
