import Domain
import Logging
import NIOPosix
import PostgresDriver
import RedisDriver
import Storage
import TestSupport
import Testing

@Suite("the route table")
struct RouteStoreTests {
    /// Runs a body with a route store on a database and a Redis of its own; without Redis where `url` is nil.
    private func withStore<T: Sendable>(
        _ harness: StorageHarness, redis url: String?,
        isAllowed: @escaping @Sendable (WorkerAddress) -> Bool = { _ in true },
        _ body: (RouteStore, RedisClient?) async throws -> T
    ) async throws -> T {
        var client: RedisClient?
        if let url {
            var configuration = try RedisConfiguration(url: url)
            configuration.commandTimeoutMilliseconds = 10_000
            configuration.connectTimeoutMilliseconds = 10_000
            configuration.backoff = RedisBackoff(baseMilliseconds: 5, maximumMilliseconds: 50)
            client = try RedisClient(
                configuration: configuration, eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
                logger: StorageHarness.logger)
        }
        let opened = client
        let result: Result<T, any Error>
        do {
            result = .success(
                try await harness.withPool("weir_directory") { pool in
                    try await body(
                        RouteStore(pool: pool, redis: opened, isAllowed: isAllowed, logger: StorageHarness.logger),
                        opened)
                })
        } catch {
            result = .failure(error)
        }
        await opened?.shutdown()
        return try result.get()
    }

    private static let registry = """
        INSERT INTO model_registry (model_name, version, feature_count, fixed_tokens_per_request, maximum_output_tokens)
            VALUES ('iris', '2', 4, 3, 128), ('lonely', '', NULL, 1, 64);
        INSERT INTO model_registry (model_name, is_active) VALUES ('retired', false);
        INSERT INTO routes (model_name, address, protocol, weight, version) VALUES
            ('iris', '127.0.0.1:9001', 'predict', 1, '2'), ('iris', '127.0.0.1:9002', 'oip', 5, ''), ('retired', '127.0.0.1:9003', 'oip', 1, '');
        """

    private func replica(
        _ port: Int, _ workerProtocol: WorkerProtocol = .predict, weight: Int = 1, version: String = ""
    ) -> Replica {
        Replica(
            address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: workerProtocol, weight: weight,
            version: version)
    }

    @Test("without Redis the table is the registry's: active models, with and without replicas")
    func registryOnly() async throws {
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await withStore(harness, redis: nil) { store, _ in
                let snapshot = await store.load()
                #expect(snapshot.redis == .notConfigured)
                #expect(snapshot.isRegistryFresh)
                #expect(snapshot.table.source == .registry)
                #expect(snapshot.table.models.map(\.profile.name) == ["iris", "lonely"])
                let iris = try #require(snapshot.table["iris"])
                #expect(
                    iris.profile
                        == ModelProfile(
                            name: "iris", version: "2", featureCount: 4, fixedTokensPerRequest: 3,
                            maximumOutputTokens: 128))
                #expect(iris.replicas == [replica(9001, version: "2"), replica(9002, .oip, weight: 5)])
                #expect(snapshot.table["lonely"]?.replicas == [])
            }
        }
    }

    @Test("an entry in Redis replaces a model's replicas and keeps its profile; an unregistered model is served, too")
    func redisEntries() async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await withStore(harness, redis: server.url) { store, client in
                let client = try #require(client)
                _ = try await client.hset(RouteStore.redisHash, "iris", Array("127.0.0.1:7001".utf8))
                _ = try await client.hset(
                    RouteStore.redisHash, "wild",
                    Array(
                        #"[{"address":"127.0.0.1:7002","protocol":"oip","weight":7,"version":"x"},{"address":"127.0.0.1:7003"}]"#
                            .utf8))
                let snapshot = await store.load()
                #expect(snapshot.redis == .available)
                #expect(snapshot.table.source == .redis)
                #expect(snapshot.table["iris"]?.replicas == [replica(7001)])
                #expect(snapshot.table["iris"]?.profile.featureCount == 4)
                #expect(
                    snapshot.table["wild"]?.replicas == [replica(7002, .oip, weight: 7, version: "x"), replica(7003)])
                #expect(snapshot.table["wild"]?.profile.fixedTokensPerRequest == 1)
                // The entry is taken away: the registry's replicas are back.
                _ = try await client.hdel(RouteStore.redisHash, ["iris", "wild"])
                let later = await store.load()
                #expect(later.table["iris"]?.replicas.count == 2)
                #expect(later.table["wild"] == nil)
                #expect(later.table.source == .registry)
            }
        }
    }

    @Test(
        "what an operator types is read",
        arguments: [
            ("127.0.0.1:7001", "127.0.0.1"), (" 127.0.0.1:7001 ", "127.0.0.1"), ("127.0.0.1:7001\n", "127.0.0.1"),
            ("http://127.0.0.1:7001", "127.0.0.1"), ("[::1]:7001", "::1"),
            (" [ {\"address\": \"[::1]:7001\"} ]", "::1"),
        ])
    func forms(value: String, host: String) async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await withStore(harness, redis: server.url) { store, client in
                _ = try await client?.hset(RouteStore.redisHash, "m", Array(value.utf8))
                let replicas = await store.load().table["m"]?.replicas
                #expect(replicas?.map(\.address) == [WorkerAddress(host: host, port: 7001)])
            }
        }
    }

    @Test(
        "an unusable entry is ignored: the registry stays, and so do the other entries",
        arguments: [
            "", "nonsense", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "[", "[1]", "[{}]",
            #"[{"address":"127.0.0.1:1","weight":0}]"#,
            #"[{"address":"127.0.0.1:1","protocol":"ftp"}]"#,
            #"[{"address":"127.0.0.1:7001"},{"address":"http://user@host:1/path"}]"#,
            #"{"address":"127.0.0.1:7001"}"#, "\u{FFFD}",
        ])
    func garbage(value: String) async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await withStore(harness, redis: server.url) { store, client in
                let client = try #require(client)
                _ = try await client.hset(RouteStore.redisHash, "iris", Array(value.utf8))
                _ = try await client.hset(RouteStore.redisHash, "../etc", Array("127.0.0.1:7001".utf8))
                _ = try await client.hset(RouteStore.redisHash, "good", Array("127.0.0.1:7001".utf8))
                let snapshot = await store.load()
                #expect(snapshot.table["iris"]?.replicas.count == 2)
                #expect(snapshot.table.models.map(\.profile.name) == ["good", "iris", "lonely"])
            }
        }
    }

    @Test("addresses that may not be called are left out; an entry with no other is as good as none")
    func disallowed() async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await harness.run("INSERT INTO routes (model_name, address) VALUES ('iris', '169.254.169.254:80')")
            try await withStore(harness, redis: server.url, isAllowed: { $0.host == "127.0.0.1" }) { store, client in
                let client = try #require(client)
                await #expect(store.load().table["iris"]?.replicas.count == 2)
                _ = try await client.hset(RouteStore.redisHash, "iris", Array("169.254.169.254:80".utf8))
                _ = try await client.hset(
                    RouteStore.redisHash, "lonely",
                    Array(#"[{"address":"169.254.169.254:80"},{"address":"127.0.0.1:7001"}]"#.utf8))
                let snapshot = await store.load()
                #expect(snapshot.table["iris"]?.replicas.count == 2)
                #expect(snapshot.table["lonely"]?.replicas == [replica(7001)])
            }
        }
    }

    @Test("an entry in Redis takes neither a version, nor a mirror, nor an alias")
    func redisAndVersions() async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await harness.run(
                """
                INSERT INTO model_versions (model_name, version, feature_count) VALUES ('iris', '1.0.0', 7), ('iris', '1.10.0', NULL);
                UPDATE model_registry SET default_version = '1.0.0', sticky_by = 'user', mirror_version = '1.10.0', mirror_share = 10
                    WHERE model_name = 'iris';
                INSERT INTO model_aliases (alias, model_name, version) VALUES ('flowers', 'iris', NULL), ('old', 'iris', '1.0.0');
                """)
            try await withStore(harness, redis: server.url) { store, client in
                let registered = try #require(await store.load().table["iris"])
                #expect(registered.versions.map(\.name) == ["1.0.0", "1.10.0"])
                for name in ["iris", "flowers"] {
                    _ = try await client?.hset(RouteStore.redisHash, name, Array("127.0.0.1:7001".utf8))
                }
                let table = await store.load().table
                let iris = try #require(table["iris"])
                #expect(iris.replicas == [replica(7001)])
                #expect(iris.versions == registered.versions && iris.rules == registered.rules)
                #expect(iris.rules.mirror == MirrorRule(model: nil, version: "1.10.0", share: 10))
                #expect(table["flowers"] == nil && table.realModel(of: "flowers") == "iris")
                #expect(table.aliasList.map(\.name) == ["flowers", "old"])
            }
        }
    }

    @Test("an empty list takes a model's replicas away")
    func emptyList() async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await withStore(harness, redis: server.url) { store, client in
                _ = try await client?.hset(RouteStore.redisHash, "iris", Array("[]".utf8))
                await #expect(store.load().table["iris"]?.replicas == [])
            }
        }
    }

    @Test("while Redis is away its last entries stay in force, and that is told")
    func redisAway() async throws {
        let server = try await RedisServer.startPrivate()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await withStore(harness, redis: server.url) { store, client in
                _ = try await client?.hset(RouteStore.redisHash, "iris", Array("127.0.0.1:7001".utf8))
                await #expect(store.load().redis == .available)
                try await server.stop()
                let away = await store.load()
                #expect(away.redis == .unavailable)
                #expect(away.table["iris"]?.replicas == [replica(7001)])
                #expect(away.table.source == .redis)
                #expect(away.isRegistryFresh)
                // It comes back empty.
                try await server.restart()
                try await eventually("Redis is available") { await store.load().redis == .available }
                await #expect(store.load().table["iris"]?.replicas.count == 2)
            }
        }
    }

    @Test("a Redis that was never there leaves the registry's table")
    func redisNeverThere() async throws {
        let server = try await RedisServer.startPrivate()
        try await server.stop()
        try await StorageHarness.with { harness in
            try await harness.run(Self.registry)
            try await withStore(harness, redis: server.url) { store, _ in
                let snapshot = await store.load()
                #expect(snapshot.redis == .unavailable)
                #expect(snapshot.table["iris"]?.replicas.count == 2)
            }
        }
    }

    @Test("while PostgreSQL is away the last registry stays in force, with what Redis says now")
    func postgresAway() async throws {
        let server = try await RedisServer.startPrivate()
        try await PostgresServer.withPrivateCluster { cluster in
            try await MigratedDatabase.migrate(cluster.url)
            try await PostgresServer.run(Self.registry, on: cluster.url)
            try await withStore(StorageHarness(url: cluster.url), redis: server.url) { store, client in
                await #expect(store.load().isRegistryFresh)
                await cluster.stop()
                _ = try await client?.hset(RouteStore.redisHash, "lonely", Array("127.0.0.1:7001".utf8))
                let away = await store.load()
                #expect(!away.isRegistryFresh)
                #expect(away.table["iris"]?.replicas.count == 2)
                #expect(away.table["iris"]?.profile.featureCount == 4)
                #expect(away.table["lonely"]?.replicas == [replica(7001)])
                try await cluster.start()
                try await eventually("the registry is fresh") { await store.load().isRegistryFresh }
            }
        }
    }
}
