import TestSupport
import Testing

@testable import Domain

@Suite("Where a request goes") struct RouteResolutionTests {
    private static let profile = ModelProfile(
        name: "iris", version: "1.0.0", featureCount: 4, fixedTokensPerRequest: 1, maximumOutputTokens: 64)

    private func replica(_ port: Int, _ version: String = "") -> Replica {
        Replica(
            address: WorkerAddress(host: "127.0.0.1", port: port), workerProtocol: .oip, weight: 1, version: version)
    }

    private func table(
        _ versions: [ModelVersion], _ replicas: [Replica], _ rules: RoutingRules = RoutingRules(),
        aliases: [ModelAlias] = [], others: [ModelRoute] = []
    ) -> RouteTable {
        RouteTable(
            [ModelRoute(profile: Self.profile, replicas: replicas, versions: versions, rules: rules)] + others,
            aliases: aliases, source: .registry)
    }

    private func resolve(
        _ table: RouteTable, _ version: String? = nil, model: String = "iris", caller: String? = nil,
        draw: UInt64 = 0
    ) -> ResolvedRoute? {
        table.resolve(
            model: model, version: version,
            stickiness: { _, hash in
                guard let caller else { return false }
                hash.combine(caller.utf8)
                return true
            }, draw: { draw })
    }

    private func ports(_ route: ResolvedRoute?) -> [Int]? { route?.candidates.map(\.address.port) }

    @Test("a version asked for is that version with its own profile; another one, and a retired one, is none")
    func exact() {
        var overrides = ProfileOverrides()
        overrides.featureCount = 7
        overrides.tokenCounting = .fixed
        let table = table(
            [
                ModelVersion(name: "1.0.0"), ModelVersion(name: "2.0.0", overrides: overrides),
                ModelVersion(name: "3.0.0", state: .retired),
            ], [replica(1, "1.0.0"), replica(2, "2.0.0"), replica(3, "3.0.0"), replica(4)])
        let second = resolve(table, "2.0.0")
        #expect(second?.version == "2.0.0" && second?.model == "iris" && second?.namesVersion == true)
        #expect(second?.profile.featureCount == 7 && second?.profile.tokenCounting == .fixed)
        #expect(second?.profile.maximumOutputTokens == 64)
        #expect(ports(second) == [2, 4])
        #expect(resolve(table, "1.0.0")?.profile.featureCount == 4)
        #expect(resolve(table, "3.0.0") == nil)
        #expect(resolve(table, "9.0.0") == nil)
        #expect(resolve(table, model: "other") == nil)
        #expect(second.map { $0.version(for: replica(4)) } == "2.0.0")
    }

    @Test("where all versions are retired no replica serves the model, however it is asked for")
    func allRetired() {
        let retired = [ModelVersion(name: "1.0.0", state: .retired)]
        let table = table(
            retired, [replica(1, "1.0.0"), replica(2)], aliases: [ModelAlias(name: "flowers", model: "iris")])
        for version in [nil, "latest", "1.0.0"] {
            #expect(resolve(table, version) == nil)
            #expect(resolve(table, version, model: "flowers") == nil)
        }
        // A worker with a version that nobody registered puts the model back into service.
        #expect(ports(resolve(self.table(retired, [replica(1, "1.0.0"), replica(3, "3.0.0")]))) == [3])
    }

    @Test("latest, and no version at all, is the greatest version that a replica serves")
    func latest() {
        let versions = ["1.9.0", "1.10.0", "2.0.0-rc.1", "3.0.0"].map { ModelVersion(name: $0) }
        let table = table(versions, [replica(1, "1.9.0"), replica(2, "1.10.0"), replica(3, "2.0.0-rc.1")])
        for version in [nil, "latest"] {
            #expect(resolve(table, version)?.version == "1.10.0")
            #expect(ports(resolve(table, version)) == [2])
        }
        // Nothing is served: what would be is named, and nobody can serve it.
        let empty = self.table(versions, [])
        #expect(resolve(empty)?.version == "3.0.0" && ports(resolve(empty)) == [])
    }

    @Test("the pinned version comes before the weights, and these before the latest")
    func pinned() {
        let versions = [
            ModelVersion(name: "1.0.0", weight: 0), ModelVersion(name: "2.0.0", weight: 10_000),
            ModelVersion(name: "3.0.0"),
        ]
        let replicas = [replica(1, "1.0.0"), replica(2, "2.0.0"), replica(3, "3.0.0")]
        #expect(resolve(table(versions, replicas, RoutingRules(defaultVersion: "1.0.0")))?.version == "1.0.0")
        #expect(resolve(table(versions, replicas))?.version == "2.0.0")
        #expect(resolve(table(versions, replicas), "latest")?.version == "3.0.0")
        // A pin that names nothing in service is none.
        #expect(resolve(table(versions, replicas, RoutingRules(defaultVersion: "9")))?.version == "2.0.0")
    }

    @Test("a model whose versions nobody registered is served as its replicas say")
    func unregistered() {
        let named = table([], [replica(1, "7"), replica(2)])
        #expect(resolve(named)?.version == "7" && ports(resolve(named)) == [1, 2])
        #expect(resolve(named)?.namesVersion == false)
        #expect(resolve(named).map { $0.version(for: replica(2)) } == .some(nil))
        #expect(ports(resolve(named, "8")) == [2])
        let unnamed = table([], [replica(2)])
        #expect(resolve(unnamed)?.version == "1.0.0" && ports(resolve(unnamed)) == [2])
        // Set by hand for a registered model, with a version that was not registered.
        let byHand = table([ModelVersion(name: "1.0.0")], [replica(3, "0.9.0")])
        #expect(resolve(byHand)?.version == "0.9.0" && ports(resolve(byHand)) == [3])
    }

    @Test("an alias leads to its model, with a version to that one alone, and never shadows a model")
    func aliases() {
        let other = ModelRoute(
            profile: ModelProfile(
                name: "other", version: "", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 1),
            replicas: [])
        let table = table(
            [ModelVersion(name: "1.0.0"), ModelVersion(name: "2.0.0")], [replica(1, "1.0.0"), replica(2, "2.0.0")],
            aliases: [
                ModelAlias(name: "flowers", model: "iris"),
                ModelAlias(name: "stable", model: "iris", version: "1.0.0"),
                ModelAlias(name: "other", model: "iris"), ModelAlias(name: "lost", model: "nowhere"),
                ModelAlias(name: "chain", model: "flowers"),
            ], others: [other])
        #expect(resolve(table, model: "flowers")?.model == "iris")
        #expect(resolve(table, model: "flowers")?.version == "2.0.0")
        #expect(resolve(table, "1.0.0", model: "flowers")?.version == "1.0.0")
        for version in [nil, "latest", "1.0.0"] {
            #expect(resolve(table, version, model: "stable")?.version == "1.0.0")
        }
        #expect(resolve(table, "2.0.0", model: "stable") == nil)
        #expect(resolve(table, model: "other")?.model == "other")
        #expect(resolve(table, model: "lost") == nil && resolve(table, model: "chain") == nil)
        #expect(table.realModel(of: "stable") == "iris" && table.realModel(of: "iris") == "iris")
        #expect(table.realModel(of: "nobody") == nil)
    }

    // MARK: Splits

    private func split(_ first: Int, _ second: Int, _ stickiness: Stickiness = .key) -> RouteTable {
        table(
            [ModelVersion(name: "1.0.0", weight: first), ModelVersion(name: "2.0.0", weight: second)],
            [replica(1, "1.0.0"), replica(2, "2.0.0")], RoutingRules(stickiness: stickiness))
    }

    @Test("a tenth goes to the version that has a tenth, and callers stay with theirs")
    func share() {
        let before = split(9_000, 1_000)
        let callers = (0..<20_000).map { "caller-\($0)" }
        let moved = callers.filter { resolve(before, caller: $0)?.version == "2.0.0" }
        #expect((1_800...2_200).contains(moved.count), "\(moved.count)")
        for caller in callers.prefix(500) {
            #expect(
                resolve(before, caller: caller, draw: .max)?.version == resolve(before, caller: caller)?.version)
        }
    }

    @Test("ten to twenty percent moves only callers of the added tenth, also where weights are relative")
    func growth() {
        for (before, after) in [(split(9_000, 1_000), split(8_000, 2_000)), (split(9, 1), split(800, 200))] {
            var added = 0
            for number in 0..<20_000 {
                let was = resolve(before, caller: "\(number)")?.version
                let now = resolve(after, caller: "\(number)")?.version
                if was == "2.0.0" { #expect(now == "2.0.0") }
                if was != now { added += 1 }
            }
            #expect((1_800...2_200).contains(added), "\(added)")
        }
    }

    @Test("without stickiness, and for a caller that shows nothing, the draw decides")
    func drawn() {
        let table = split(5_000, 5_000, .none)
        #expect(resolve(table, caller: "x", draw: 0)?.version == "1.0.0")
        #expect(resolve(table, caller: "x", draw: .max)?.version == "2.0.0")
        #expect(resolve(split(5_000, 5_000), draw: .max)?.version == "2.0.0")
    }

    @Test("every point belongs to a share with a weight, as counted slowly", arguments: 0..<6)
    func points(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<300 {
            let shares = (0..<Int.random(in: 1...5, using: &random)).map {
                TrafficSplit.Share(version: "\($0)", weight: Int.random(in: 0...20, using: &random))
            }
            let total = shares.reduce(0) { $0 + $1.weight }
            guard let split = TrafficSplit(shares) else {
                #expect(total == 0)
                continue
            }
            let line = shares.indices.flatMap { Array(repeating: $0, count: shares[$0].weight) }
            for place in 0..<total {
                // The first point whose place on the line is this one.
                let width = UInt64.max / UInt64(total)
                let point = UInt64(place) * width + UInt64(total) + UInt64.random(in: 0..<width / 2, using: &random)
                #expect(split.index(at: point) == line[place])
            }
            #expect(shares[split.index(at: .max)].weight > 0 && shares[split.index(at: 0)].weight > 0)
        }
    }

    // MARK: The hash

    @Test(
        "the hash is SipHash-2-4: the vectors of its authors",
        arguments: [
            (0, 0x726F_DB47_DD0E_0E31), (1, 0x74F8_39C5_93DC_67FD), (7, 0xAB02_00F5_8B01_D137),
            (8, 0x93F5_F579_9A93_2462), (15, 0xA129_CA61_49BE_45E5),
        ] as [(Int, UInt64)])
    func vectors(length: Int, expected: UInt64) {
        var hash = StableHash(key0: 0x0706_0504_0302_0100, key1: 0x0F0E_0D0C_0B0A_0908)
        hash.combine((0..<length).map { UInt8($0) })
        #expect(hash.value == expected)
    }

    @Test("the hash that decides is the same in every release")
    func constant() {
        var hash = StableHash()
        hash.combine("iris".utf8)
        hash.combine(0)
        hash.combine("session-1".utf8)
        #expect(hash.value == 0x63DF_BFA5_CCB1_8B26)
    }

    @Test(
        "what callers may be told apart by",
        arguments: [
            ("none", Stickiness.none), ("tenant", .tenant), ("key", .key), ("user", .user),
            ("session_id", .field("session_id")), ("x-1.y", .field("x-1.y")), ("model", nil), ("features", nil),
            ("api_base", nil), ("", nil), ("1a", nil), ("a b", nil), ("é", nil),
            (String(repeating: "a", count: 64), .field(String(repeating: "a", count: 64))),
            (String(repeating: "a", count: 65), nil),
        ] as [(String, Stickiness?)])
    func stickiness(text: String, expected: Stickiness?) {
        #expect(Stickiness(text) == expected)
        if let expected { #expect(expected.text == text) }
    }

    // MARK: Mirrors

    @Test("a mirror takes its share, is not mirrored again, and is not the version that serves")
    func mirror() {
        let other = ModelRoute(
            profile: ModelProfile(
                name: "other", version: "", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 1),
            replicas: [replica(9)], rules: RoutingRules(mirror: MirrorRule(model: "iris", version: nil, share: 10_000)))
        let versions = [ModelVersion(name: "1.0.0"), ModelVersion(name: "2.0.0")]
        let replicas = [replica(1, "1.0.0"), replica(2, "2.0.0")]
        let toOther = table(
            versions, replicas, RoutingRules(mirror: MirrorRule(model: "other", version: nil, share: 2_500)),
            others: [other])
        #expect(resolve(toOther, draw: .max / 4 - 10_000)?.mirror?.route.model == "other")
        #expect(resolve(toOther, draw: .max / 4 + 10_000)?.mirror == nil)
        #expect(resolve(toOther)?.mirror?.route.mirror == nil)
        let toFirst = table(
            versions, replicas, RoutingRules(mirror: MirrorRule(model: nil, version: "1.0.0", share: 10_000)))
        #expect(resolve(toFirst)?.version == "2.0.0")
        #expect(resolve(toFirst)?.mirror?.route.version == "1.0.0")
        #expect(ports(resolve(toFirst)?.mirror?.route) == [1])
        #expect(resolve(toFirst, "1.0.0")?.mirror == nil)
        let toNowhere = table(
            versions, replicas, RoutingRules(mirror: MirrorRule(model: nil, version: "9", share: 10_000)))
        #expect(resolve(toNowhere)?.mirror == nil)
    }
}
