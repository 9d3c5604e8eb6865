import Domain
import Testing

@testable import Admin

@Suite("Versions of tiers on the admin listener")
struct TierVersionRouteTests {
    private let admin = AdminUnderTest()

    private func draft(_ more: String, prices: String = "") async throws -> Answer {
        try await admin.send(
            "POST", "/admin/v1/tiers/plain/versions", key: "pricing",
            body: #"{"currency": "EUR", "prices": [\#(prices)], "quotas": [] \#(more)}"#)
    }

    @Test("everything that a version can say is taken, and shown as it was taken")
    func everything() async throws {
        let answer = try await draft(
            """
            , "base_fee_micros": 5, "minimum_commitment_micros": 6, "included_requests": 7, "included_tokens": 8, "trial_days": 9,
            "effective_at": "2027-01-01T00:00:00Z", "failed_request": "charged", "cache_hit_request": "free",
            "multipliers": [{"meter": "output_token", "model": "opus", "multiplier": "2.5"}]
            """,
            prices: """
                {"meter": "input_token", "model": "*", "unit_price": "0.15", "per": 1000000},
                {"meter": "request", "model": "*", "price_model": "package", "unit_price": "5", "package_size": 1000},
                {"meter": "output_token", "model": "*", "price_model": "graduated", "per": 1000,
                 "bands": [{"up_to": 10, "unit_price": "0.002"}, {"up_to": null, "unit_price": "0.001"}]},
                {"meter": "cached_input_token", "model": "*", "price_model": "volume", "bands": [{"unit_price": "0"}]}
                """)
        #expect(answer.status == 201, "\(answer.text)")
        let offer = try #require(admin.administration.last.offer)
        #expect(offer.baseFee == Micros(5) && offer.minimumCommitment == Micros(6))
        #expect(offer.includedRequests == 7 && offer.includedTokens == 8 && offer.trialDays == 9)
        #expect(offer.effectiveAt == Timestamp(rfc3339: "2027-01-01T00:00:00Z"))
        #expect(offer.multipliers.map(\.multiplier.millionths) == [2_500_000])
        #expect(offer.requestTerms == RequestTerms(cacheHit: .free, failure: .charged))
        #expect(answer.json["failed_request"].text == "charged" && answer.json["cache_hit_request"].text == "free")
        #expect(
            offer.rules.map(\.price) == [
                .flat(UnitPrice(picos: 150_000)), .package(size: 1_000, price: UnitPrice(picos: 5_000_000_000_000)),
                .graduated([
                    PriceBand(upTo: 10, unitPrice: UnitPrice(picos: 2_000_000)),
                    PriceBand(upTo: nil, unitPrice: UnitPrice(picos: 1_000_000)),
                ]), .volume([PriceBand(upTo: nil, unitPrice: .free)]),
            ])
        #expect(answer.json["prices"][0]["unit_price"].text == "0.000000150000")
        #expect(answer.json["prices"][2]["bands"][0]["up_to"] == .number("10"))
        #expect(answer.json["prices"][2]["unit_price"] == .null)
        #expect(answer.json["multipliers"][0]["multiplier"].text == "2.500000")
    }

    @Test(
        "prices that leave a unit without one, or with two, are refused with what to do",
        arguments: [
            // overlap, gap at the end, no unit, a hole in the middle
            (#"[{"up_to": 10, "unit_price": "1"}, {"up_to": 5, "unit_price": "1"}, {"unit_price": "1"}]"#, "/1/up_to"),
            (#"[{"up_to": 10, "unit_price": "1"}]"#, "/0/up_to"),
            (#"[{"up_to": 10, "unit_price": "1"}, {"up_to": 10, "unit_price": "1"}, {"unit_price": "1"}]"#, "/1/up_to"),
            (#"[{"unit_price": "1"}, {"up_to": 10, "unit_price": "1"}, {"unit_price": "1"}]"#, "/0/up_to"),
            (#"[{"up_to": 0, "unit_price": "1"}, {"unit_price": "1"}]"#, "/0/up_to"),
            (#"[{"up_to": -1, "unit_price": "1"}, {"unit_price": "1"}]"#, "/0/up_to"),
            (#"[{"up_to": 1.5, "unit_price": "1"}, {"unit_price": "1"}]"#, "/0/up_to"),
            (#"[{"up_to": 10, "unit_price": "-1"}, {"unit_price": "1"}]"#, "/0/unit_price"),
            ("[]", ""),
        ])
    func badBands(bands: String, location: String) async throws {
        for kind in ["graduated", "volume"] {
            let answer = try await draft(
                "", prices: #"{"meter": "request", "model": "*", "price_model": "\#(kind)", "bands": \#(bands)}"#)
            #expect(answer.status == 422)
            #expect(answer.locations.first == "/prices/0/bands" + location, "\(answer.text)")
            #expect(answer.text.contains("fix"))
        }
        #expect(admin.administration.last.offer == nil)
    }

    @Test(
        "what a version cannot say is refused",
        arguments: [
            (#", "effective_at": "2020-01-01T00:00:00Z""#, "", "/effective_at"),
            (#", "failed_request": "0""#, "", "/failed_request"),
            (#", "cache_hit_request": true"#, "", "/cache_hit_request"),
            (#", "base_fee_micros": -1"#, "", "/base_fee_micros"),
            (#", "trial_days": 400"#, "", "/trial_days"),
            (#", "multipliers": [{"meter": "request", "model": "a", "multiplier": "2"}]"#, "", "/multipliers/0/meter"),
            (
                #", "multipliers": [{"meter": "output_token", "model": "a", "multiplier": "0"}]"#, "",
                "/multipliers/0/multiplier"
            ),
            (
                #", "multipliers": [{"meter": "output_token", "model": "a", "multiplier": "0.5"}]"#,
                #"{"meter": "output_token", "model": "*", "unit_price": "0.000000000001"}"#, "/multipliers"
            ),
            (
                "", #"{"meter": "request", "model": "*", "unit_price": "0.000000000001", "per": 1000}"#,
                "/prices/0/unit_price"
            ),
            ("", #"{"meter": "request", "model": "*", "unit_price": "1", "per": 7}"#, "/prices/0/per"),
            (
                "", #"{"meter": "request", "model": "*", "unit_price": "1", "bands": [{"unit_price": "1"}]}"#,
                "/prices/0/bands"
            ),
            (
                "", #"{"meter": "request", "model": "*", "price_model": "package", "unit_price": "1"}"#,
                "/prices/0/package_size"
            ),
        ])
    func bad(more: String, prices: String, location: String) async throws {
        let answer = try await draft(more, prices: prices)
        #expect(answer.status == 422)
        #expect(answer.locations == [location], "\(answer.text)")
    }

    @Test("a change of a draft keeps what it does not name")
    func change() async throws {
        let old = TierOffer(
            currency: "EUR", baseFee: Micros(1), includedTokens: 9,
            rules: [PriceRule(meter: .request, model: "*", price: .flat(UnitPrice(picos: 5)))])
        admin.administration.set { $0.oldOffer = old }
        let answer = try await admin.send(
            "PATCH", "/admin/v1/tiers/plain/versions/2", key: "pricing", body: #"{"base_fee_micros": 7}"#)
        #expect(answer.status == 200)
        var new = old
        new.baseFee = Micros(7)
        #expect(admin.administration.last.offer == new && admin.administration.last.oldOffer == old)
        let currency = try await admin.send(
            "PATCH", "/admin/v1/tiers/plain/versions/2", key: "pricing", body: #"{"currency": "USD"}"#)
        #expect(currency.code == "unknown_field")
    }

    @Test("a publication says by how much a price may move, and what was seen")
    func publish() async throws {
        let digest = String(repeating: "ab", count: 32)
        let answer = try await admin.send(
            "POST", "/admin/v1/tiers/plain/versions/2/publish", key: "pricing", body: #"{"confirm": "\#(digest)"}"#)
        #expect(answer.status == 200)
        #expect(admin.administration.last.publication == TierPublication(factor: 3, confirmation: digest))
        let bad = try await admin.send(
            "POST", "/admin/v1/tiers/plain/versions/2/publish", key: "pricing", body: #"{"confirm": "yes"}"#)
        #expect(bad.locations == ["/confirm"])
    }

    @Test("versions and codes that cannot be are unknown", arguments: ["0", "-1", "x", "99999999999"])
    func unknown(version: String) async throws {
        #expect(try await admin.send("GET", "/admin/v1/tiers/plain/versions/\(version)").status == 404)
        #expect(admin.administration.last.calls.isEmpty)
    }

    @Test("no tier takes a word of the API for its code")
    func reserved() async throws {
        let answer = try await admin.send(
            "POST", "/admin/v1/tiers",
            body: #"{"code": "analysis", "name": "A", "version": {"currency": "EUR", "prices": [], "quotas": []}}"#)
        #expect(answer.locations == ["/code"])
    }
}
