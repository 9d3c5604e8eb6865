import Domain
import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("Administration of versions, aliases and workers")
struct AdministrationRoutingTests {
    private struct Age: PostgresStatement {
        static let sql = "UPDATE workers SET expires_at = clock_timestamp() - interval '1 millisecond'"
    }

    private struct Generation: PostgresStatement {
        static let sql = "SELECT value FROM control_generation"
        static let columns: [PostgresType] = [.int8]
        static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
    }

    private func register(_ harness: AdministrationHarness, _ name: String = "iris", version: String = "1.0.0")
        async throws
    {
        _ = try await harness.store.registerModel(
            ModelProfile(
                name: name, version: version, featureCount: 4, fixedTokensPerRequest: 5, maximumOutputTokens: 16),
            by: .system)
    }

    private func table(_ harness: AdministrationHarness) async throws -> RouteTable {
        try await harness.asRole("weir_directory") { pool in
            await RouteStore(pool: pool, redis: nil, isAllowed: { _ in true }, logger: AdministrationHarness.logger)
                .load().table
        }
    }

    private func worker(_ port: Int, version: String = "", model: String = "iris") -> NewWorker {
        NewWorker(
            model: model,
            replica: Replica(
                address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: .oip, weight: 3,
                version: version), lifetimeSeconds: 15)
    }

    @Test("versions, weights, pins, mirrors and aliases come back as they were set, and the gateway reads them")
    func routing() async throws {
        try await AdministrationHarness.with { harness in
            let store = harness.store
            try await register(harness)
            try await register(harness, "shadow", version: "")
            var overrides = ProfileOverrides()
            overrides.featureCount = 7
            overrides.tokenCounting = .payload
            overrides.bytesPerToken = 3
            _ = try await store.setModelVersion(
                "iris", ModelVersion(name: "1.10.0", overrides: overrides), by: .system)
            _ = try await store.setModelVersion("iris", ModelVersion(name: "1.9.0"), by: .system)
            var change = ModelRoutingChange()
            change.defaultVersion = .set("1.9.0")
            change.stickiness = .field("session_id")
            change.mirror = .set(MirrorRule(model: "shadow", version: nil, share: 500))
            change.shares = [
                TrafficSplit.Share(version: "1.0.0", weight: 9_000), TrafficSplit.Share(version: "1.10.0", weight: 0),
            ]
            let row = try await store.changeModelRouting("iris", change, by: .system)
            #expect(
                row.versions == [
                    ModelVersion(name: "1.0.0", weight: 9_000), ModelVersion(name: "1.9.0"),
                    ModelVersion(name: "1.10.0", weight: 0, overrides: overrides),
                ])
            #expect(
                row.rules
                    == RoutingRules(
                        defaultVersion: "1.9.0", stickiness: .field("session_id"),
                        mirror: MirrorRule(model: "shadow", version: nil, share: 500)))
            let alias = ModelAlias(name: "flowers", model: "iris", version: "1.10.0")
            #expect(try await store.setAlias(alias, by: .system) == alias)
            let read = try await table(harness)
            #expect(read["iris"]?.versions == row.versions && read["iris"]?.rules == row.rules)
            #expect(read.aliasList == [alias])
            #expect(try await store.modelRouting("iris").aliases == [alias])
            // Nothing but what is named changes, and null takes away.
            var clear = ModelRoutingChange()
            clear.mirror = .clear
            clear.defaultVersion = .clear
            let cleared = try await store.changeModelRouting("iris", clear, by: .system)
            #expect(cleared.rules == RoutingRules(stickiness: .field("session_id")))
            #expect(cleared.versions == row.versions)
            try await store.deleteAlias("flowers", by: .system)
            #expect(try await table(harness).aliasList.isEmpty)
            let entries = try await store.audit(AuditQuery(page: PageRequest(limit: 20)))
            #expect(
                entries.elements.map(\.action).reversed() == [
                    "model.register", "model.register", "model.version", "model.version", "model.route", "alias.set",
                    "model.route", "alias.delete",
                ])
            #expect(entries.elements.first { $0.action == "model.route" }?.before?.contains("shadow") == true)
        }
    }

    @Test("what would lead nowhere is refused")
    func refusals() async throws {
        try await AdministrationHarness.with { harness in
            let store = harness.store
            try await register(harness)
            _ = try await store.setModelVersion("iris", ModelVersion(name: "0.9", state: .retired), by: .system)
            func refused(_ change: ModelRoutingChange, _ location: String) async throws {
                let found = await refusal { _ = try await store.changeModelRouting("iris", change, by: .system) }
                #expect(found?.code == .validationFailed && found?.errors.first?.location == location)
            }
            for version in ["9", "0.9"] {
                var change = ModelRoutingChange()
                change.defaultVersion = .set(version)
                try await refused(change, "/default_version")
                change = ModelRoutingChange()
                change.shares = [TrafficSplit.Share(version: version, weight: 1)]
                try await refused(change, "/split")
                change = ModelRoutingChange()
                change.mirror = .set(MirrorRule(model: nil, version: version, share: 1))
                try await refused(change, "/mirror/version")
            }
            var change = ModelRoutingChange()
            change.mirror = .set(MirrorRule(model: "nobody", version: nil, share: 1))
            try await refused(change, "/mirror/model")
            let unknown = await refusal { _ = try await store.changeModelRouting("nobody", change, by: .system) }
            #expect(unknown?.code == .notFound)

            change = ModelRoutingChange()
            change.defaultVersion = .set("1.0.0")
            _ = try await store.changeModelRouting("iris", change, by: .system)
            let retired = ModelVersion(name: "1.0.0", state: .retired)
            let pinned = await refusal { _ = try await store.setModelVersion("iris", retired, by: .system) }
            #expect(pinned?.code == .conflict)

            _ = try await store.setAlias(ModelAlias(name: "flowers", model: "iris"), by: .system)
            for (alias, code) in [
                (ModelAlias(name: "iris", model: "iris"), FailureCode.conflict),
                (ModelAlias(name: "chain", model: "flowers"), .validationFailed),
                (ModelAlias(name: "lost", model: "nobody"), .validationFailed),
                (ModelAlias(name: "lost", model: "iris", version: "0.9"), .validationFailed),
            ] {
                let found = await refusal { _ = try await store.setAlias(alias, by: .system) }
                #expect(found?.code == code, "\(alias)")
            }
            let taken = await refusal { try await register(harness, "flowers") }
            #expect(taken?.code == .conflict)
            let missing = await refusal { try await store.deleteAlias("nobody", by: .system) }
            #expect(missing?.code == .notFound)
        }
    }

    @Test("a name is a model's or an alias', also where both are made at once", arguments: 0..<4)
    func race(turn: Int) async throws {
        try await AdministrationHarness.with { harness in
            try await register(harness)
            async let model = refusal { try await register(harness, "both") }
            async let alias = refusal {
                _ = try await harness.store.setAlias(ModelAlias(name: "both", model: "iris"), by: .system)
            }
            let codes = await [model?.code, alias?.code]
            #expect(codes.filter { $0 == nil }.count == 1)
            #expect(codes.contains(.conflict))
        }
    }

    @Test("a worker is a replica until it expires, and a heartbeat writes nothing but its row")
    func workers() async throws {
        try await AdministrationHarness.with { harness in
            let store = harness.store
            try await register(harness)
            let row = try await store.registerWorker(worker(9_000, version: "1.0.0"), by: .system)
            #expect(row.heartbeatSeconds == 5 && !row.isExpired && row.model == "iris")
            #expect(try await table(harness)["iris"]?.replicas == [worker(9_000, version: "1.0.0").replica])
            let generation = try await harness.pool.execute(Generation()).first
            let renewed = try await store.renewWorker(row.id)
            #expect(renewed.expiresAt > row.expiresAt && renewed.id == row.id)
            #expect(try await harness.pool.execute(Generation()).first == generation)

            try await harness.asRole(nil) { _ = try await $0.execute(Age()) }
            #expect(try await table(harness)["iris"]?.replicas == [])
            #expect(try await store.workers(PageRequest(limit: 10)).elements.map(\.isExpired) == [true])
            _ = try await store.renewWorker(row.id)
            #expect(try await table(harness)["iris"]?.replicas.count == 1)

            // Another one with the same address takes its place; the same one set as a route counts once.
            let next = try await store.registerWorker(worker(9_000, version: "1.0.0"), by: .system)
            let gone = await refusal { _ = try await store.renewWorker(row.id) }
            #expect(gone?.code == .notFound)
            _ = try await store.setRoute("iris", [worker(9_000, version: "1.0.0").replica], by: .system)
            #expect(try await table(harness)["iris"]?.replicas.count == 1)
            try await store.removeWorker(next.id, by: .system)
            let again = await refusal { try await store.removeWorker(next.id, by: .system) }
            #expect(again?.code == .notFound)
            let entries = try await store.audit(AuditQuery(page: PageRequest(limit: 20)))
            #expect(
                entries.elements.map(\.action).reversed() == [
                    "model.register", "worker.register", "worker.register", "route.set", "worker.remove",
                ])
        }
    }

    @Test("a worker of an unknown model or version is refused")
    func unknownWorkers() async throws {
        try await AdministrationHarness.with { harness in
            try await register(harness)
            for (worker, code) in [
                (worker(1, model: "nobody"), FailureCode.notFound), (worker(1, version: "9"), .validationFailed),
            ] {
                let found = await refusal { _ = try await harness.store.registerWorker(worker, by: .system) }
                #expect(found?.code == code)
            }
            _ = try await harness.store.registerWorker(worker(1), by: .system)
        }
    }
}
