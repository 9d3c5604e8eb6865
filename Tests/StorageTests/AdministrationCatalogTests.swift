import Domain
import PostgresDriver
import Storage
import Testing

@Suite("Administration of tiers, models and routes")
struct AdministrationCatalogTests {
    private struct ChangePrice: PostgresStatement {
        static let sql = "UPDATE tier_prices SET unit_price = 0"
    }

    private struct AddQuota: PostgresStatement {
        static let sql =
            "INSERT INTO tier_quotas SELECT tier_version_id, 'tokens', 'year', 1, 'hard' FROM tier_versions"
    }

    private struct DropPrices: PostgresStatement {
        static let sql = "DELETE FROM tier_prices"
    }

    private struct ChangeVersion: PostgresStatement {
        static let sql = "UPDATE tier_versions SET base_fee_micros = 0"
    }

    private struct Unpublish: PostgresStatement {
        static let sql = "UPDATE tier_versions SET state = 'draft', published_at = NULL"
    }

    private struct Retire: PostgresStatement {
        static let sql = "UPDATE tier_versions SET state = 'retired'"
    }

    @Test("a tier comes back as it was made, exact to twelve places, and the gateway rates by it")
    func createTier() async throws {
        try await AdministrationHarness.with { harness in
            let made = try await harness.makeTier()
            #expect(made.version.number == 1)
            #expect(made.version.state == .published)
            #expect(made.version.offer.baseFee == Micros(49_000_000))
            #expect(made.version.offer.rules.map(\.price.unitPrice?.picos) == [1, 100_000_000])
            #expect(
                made.version.offer.quotas == [QuotaRule(unit: .requests, frequency: .month, amount: 1_000, mode: .hard)]
            )
            let page = try await harness.store.tiers(PageRequest(limit: 10))
            #expect(page.elements == [made])
            let sheet = try await harness.asRole("weir_directory") { pool in
                try await PriceStore(pool: pool).sheet(made.version.id)
            }
            #expect(sheet?.currency == "EUR")
            #expect(sheet?.price(of: .inputToken, model: "iris") == UnitPrice(picos: 1))
            #expect(sheet?.price(of: .request, model: "other") == UnitPrice(picos: 100_000_000))
        }
    }

    @Test("a code is given once, also by two at the same time")
    func tierTwice() async throws {
        try await AdministrationHarness.with { harness in
            let outcomes = await withTaskGroup(of: FailureCode?.self) { group in
                for _ in 0..<4 {
                    group.addTask { await refusal { try await harness.makeTier() }?.code }
                }
                var outcomes: [FailureCode?] = []
                for await outcome in group { outcomes.append(outcome) }
                return outcomes
            }
            #expect(outcomes.filter { $0 == nil }.count == 1)
            #expect(outcomes.filter { $0 == .conflict }.count == 3)
            let page = try await harness.store.tiers(PageRequest(limit: 10))
            #expect(page.elements.count == 1)
        }
    }

    @Test("nobody changes a published version, not even the administration; it can be retired")
    func immutable() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            for change in [ChangePrice(), AddQuota(), DropPrices(), ChangeVersion(), Unpublish()]
                as [any PostgresStatement]
            {
                let error = await #expect(throws: PostgresError.self) {
                    _ = try await harness.pool.affectedRows(by: change)
                }
                #expect(error?.sqlState == "23514", "\(type(of: change))")
            }
            let retired = try await harness.pool.affectedRows(by: Retire())
            #expect(retired == 1)
        }
    }

    @Test("nobody subscribes to a retired version, and its tier is still listed")
    func retired() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.makeTier()
            _ = try await harness.pool.affectedRows(by: Retire())
            let failure = await refusal { _ = try await harness.makeTenant() }
            #expect(failure?.code == .validationFailed)
            let page = try await harness.store.tiers(PageRequest(limit: 10))
            #expect(page.elements.map(\.version.state) == [.retired])
        }
    }

    @Test("a tier without a price or a quota is a tier")
    func emptyTier() async throws {
        try await AdministrationHarness.with { harness in
            let made = try await harness.store.createTier(
                NewTier(code: "free", name: "Free", currency: "USD", baseFee: .zero, prices: [], quotas: []),
                by: .system)
            #expect(made.version.offer.rules.isEmpty)
            #expect(made.version.offer.quotas.isEmpty)
        }
    }

    @Test("tiers, models and routes come in the order of their names, in both directions")
    func pages() async throws {
        try await AdministrationHarness.with { harness in
            let names = ["c", "a", "e", "b", "d"]
            for name in names {
                try await harness.makeTier(name)
                _ = try await harness.store.registerModel(model(name), by: .system)
                _ = try await harness.store.setRoute(name, [replica(9_000)], by: .system)
            }
            let pages: [(PageRequest<String>, [String], Bool)] = [
                (PageRequest(limit: 2), ["a", "b"], true), (PageRequest(limit: 2, after: "b"), ["c", "d"], true),
                (PageRequest(limit: 2, after: "d"), ["e"], false),
                (PageRequest(limit: 2, before: "d"), ["b", "c"], true),
                (PageRequest(limit: 3, before: "d"), ["a", "b", "c"], false),
                (PageRequest(limit: 2, after: "z"), [], false),
            ]
            for (page, expected, hasMore) in pages {
                let tiers = try await harness.store.tiers(page)
                #expect(tiers.elements.map(\.code) == expected)
                #expect(tiers.hasMore == hasMore)
                let models = try await harness.store.models(page)
                #expect(models.elements.map(\.name) == expected)
                #expect(models.hasMore == hasMore)
                let routes = try await harness.store.routes(page)
                #expect(routes.elements.map(\.model) == expected)
                #expect(routes.hasMore == hasMore)
            }
        }
    }

    private func model(_ name: String = "iris") -> ModelProfile {
        ModelProfile(name: name, version: "1", featureCount: 4, fixedTokensPerRequest: 5, maximumOutputTokens: 16)
    }

    private func replica(_ port: Int, usesTLS: Bool = false) -> Replica {
        Replica(
            address: WorkerAddress(host: "127.0.0.1", port: port, usesTLS: usesTLS), workerProtocol: .oip,
            weight: port % 10 + 1, version: "1")
    }

    @Test("a model is registered once")
    func registerModel() async throws {
        try await AdministrationHarness.with { harness in
            let made = try await harness.store.registerModel(model(), by: .system)
            #expect(made == model())
            let again = await refusal { _ = try await harness.store.registerModel(model(), by: .system) }
            #expect(again?.code == .conflict)
            let page = try await harness.store.models(PageRequest(limit: 10))
            #expect(page.elements == [model()])
        }
    }

    @Test("how replicas are called is set whole, and both the list and the gateway read every setting as it was set")
    func setDelivery() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await harness.store.registerModel(model(), by: .system)
            var settings = DeliverySettings(balancing: .leastLatency, isSafeToRepeat: false, probePath: "/up?a=b")
            // Different from each other, so that no two columns can be taken for one another.
            for (index, number) in DeliverySettings.Number.allCases.enumerated() {
                settings.numbers[number] = min(max(number.range.lowerBound, Int64(index) + 2), number.range.upperBound)
            }
            settings.numbers[.attempts] = 5
            let set = try await harness.store.setDelivery(of: "iris", settings, by: .system)
            #expect(set.delivery == settings)
            let listed = try await harness.store.models(PageRequest(limit: 10)).elements
            #expect(listed.map(\.delivery) == [settings])
            let snapshot = try await harness.asRole("weir_directory") { pool in
                await RouteStore(pool: pool, redis: nil, isAllowed: { _ in true }, logger: AdministrationHarness.logger)
                    .load()
            }
            #expect(snapshot.table["iris"]?.profile.delivery == settings)
            let cleared = try await harness.store.setDelivery(of: "iris", .none, by: .system)
            #expect(cleared == model())
            let unknown = await refusal { _ = try await harness.store.setDelivery(of: "nobody", .none, by: .system) }
            #expect(unknown?.code == .notFound)
        }
    }

    @Test("the registry accepts what the rules accept, and nothing beside it")
    func deliveryBounds() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await harness.store.registerModel(model(), by: .system)
            for number in DeliverySettings.Number.allCases {
                for value in [number.range.lowerBound, number.range.upperBound] {
                    _ = try await harness.store.setDelivery(
                        of: "iris", DeliverySettings(numbers: [number: value]), by: .system)
                }
                for value in [number.range.lowerBound - 1, number.range.upperBound + 1] {
                    await #expect(throws: (any Error).self, "\(number) \(value)") {
                        try await harness.store.setDelivery(
                            of: "iris", DeliverySettings(numbers: [number: value]), by: .system)
                    }
                }
            }
        }
    }

    @Test("a route is replaced whole, and the gateway reads it with TLS, weight, protocol and version")
    func setRoute() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await harness.store.registerModel(model(), by: .system)
            _ = try await harness.store.setRoute("iris", [replica(9_000), replica(9_001)], by: .system)
            let set = try await harness.store.setRoute("iris", [replica(9_003, usesTLS: true)], by: .system)
            #expect(set.replicas == [replica(9_003, usesTLS: true)])
            let snapshot = try await harness.asRole("weir_directory") { pool in
                await RouteStore(pool: pool, redis: nil, isAllowed: { _ in true }, logger: AdministrationHarness.logger)
                    .load()
            }
            #expect(
                snapshot.table["iris"]
                    == ModelRoute(
                        profile: model(), replicas: [replica(9_003, usesTLS: true)],
                        versions: [ModelVersion(name: "1")]))
        }
    }

    @Test("a route needs a registered model, and is deleted once")
    func routeRefusals() async throws {
        try await AdministrationHarness.with { harness in
            let unregistered = await refusal {
                _ = try await harness.store.setRoute("iris", [replica(9_000)], by: .system)
            }
            #expect(unregistered?.code == .notFound)
            _ = try await harness.store.registerModel(model(), by: .system)
            let missing = await refusal { try await harness.store.deleteRoute("iris", by: .system) }
            #expect(missing?.code == .notFound)
            _ = try await harness.store.setRoute("iris", [replica(9_000)], by: .system)
            try await harness.store.deleteRoute("iris", by: .system)
            let page = try await harness.store.routes(PageRequest(limit: 10))
            #expect(page.elements.isEmpty)
        }
    }

    @Test("a route without a worker changes nothing")
    func emptyRoute() async throws {
        try await AdministrationHarness.with { harness in
            _ = try await harness.store.registerModel(model(), by: .system)
            _ = try await harness.store.setRoute("iris", [replica(9_000)], by: .system)
            let empty = await refusal { _ = try await harness.store.setRoute("iris", [], by: .system) }
            #expect(empty?.code == .validationFailed)
            let page = try await harness.store.routes(PageRequest(limit: 10))
            #expect(page.elements.map(\.replicas) == [[replica(9_000)]])
        }
    }
}
