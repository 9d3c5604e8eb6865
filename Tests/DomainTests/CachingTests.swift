import Domain
import Testing

@Suite("SIEVE") struct SieveStoreTests {
    private func store(_ names: String..., capacity: Int = 80) -> SieveStore<String, String> {
        var store = SieveStore<String, String>(capacityBytes: capacity)
        for name in names { _ = store.insert(name, of: name, bytes: 10, endNanoseconds: 1_000) }
        return store
    }

    @Test("what was read since the hand passed stays, what nobody asked for goes")
    func evicts() {
        var store = store("a", "b", "c", "d", "e", "f", "g", "h")
        #expect(store.value(of: "a", atNanoseconds: 0) == "a" && store.value(of: "c", atNanoseconds: 0) == "c")
        guard case .stored(let removed) = store.insert("i", of: "i", bytes: 10, endNanoseconds: 1_000) else {
            Issue.record("not stored")
            return
        }
        #expect(removed.map(\.value) == ["b"])
        guard case .stored(let next) = store.insert("j", of: "j", bytes: 10, endNanoseconds: 1_000) else { return }
        #expect(next.map(\.value) == ["d"], "the hand went on, over the one that was read")
        #expect(store.value(of: "a", atNanoseconds: 0) != nil && store.value(of: "c", atNanoseconds: 0) != nil)
        #expect(store.bytes == 80 && store.count == 8)
    }

    @Test("if all were read, the oldest goes") func allRead() {
        var store = store("a", "b", "c", "d", "e", "f", "g", "h")
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] { _ = store.value(of: name, atNanoseconds: 0) }
        guard case .stored(let removed) = store.insert("i", of: "i", bytes: 10, endNanoseconds: 1_000) else { return }
        #expect(removed.map(\.value) == ["a"])
    }

    @Test("a value ends at its end, and leaves its room") func ends() {
        var store = store("a")
        #expect(store.value(of: "a", atNanoseconds: 999) == "a")
        #expect(store.value(of: "a", atNanoseconds: 1_000) == nil)
        #expect(store.bytes == 0 && store.count == 0)
    }

    @Test("a value that is put again replaces the old one") func replaces() {
        var store = store("a", "b")
        _ = store.insert("x", of: "a", bytes: 5, endNanoseconds: 1_000)
        #expect(store.value(of: "a", atNanoseconds: 0) == "x" && store.bytes == 15 && store.count == 2)
    }

    @Test("what is larger than an eighth is not kept, and an old value under its key goes") func tooLarge() {
        var store = store("a")
        guard case .tooLarge = store.insert("x", of: "a", bytes: 11, endNanoseconds: 1_000) else {
            Issue.record("kept")
            return
        }
        #expect(store.value(of: "a", atNanoseconds: 0) == nil && store.bytes == 0)
    }

    @Test("bytes and count stay within their bounds, whatever happens", arguments: 0..<8)
    func bounded(seed: UInt64) {
        var random = SplitMix(state: seed)
        var store = SieveStore<Int, Int>(capacityBytes: 1_000)
        var known: [Int: Int] = [:]
        for step in 0..<5_000 {
            let key = Int(random.next() % 60)
            switch random.next() % 4 {
            case 0, 1:
                let bytes = Int(random.next() % 125)
                if case .stored(let removed) = store.insert(step, of: key, bytes: bytes, endNanoseconds: 1_000) {
                    for removal in removed { known = known.filter { $0.value != removal.value } }
                    known[key] = step
                }
            case 2:
                if store.remove(key) != nil { known[key] = nil }
            default:
                let value = store.value(of: key, atNanoseconds: 0)
                #expect(value == known[key])
            }
            #expect(store.bytes <= 1_000 && store.bytes >= 0 && store.count == known.count)
        }
    }

    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }
}

@Suite("Cache policy") struct CachePolicyTests {
    @Test("the request, the model and the installation say how long, in this order, and never longer than the maximum")
    func ttl() {
        var policy = CachePolicy(isOn: true)
        #expect(policy.ttlSeconds(asked: nil, default: 300, maximum: 86_400) == 300)
        policy.ttlSeconds = 60
        #expect(policy.ttlSeconds(asked: nil, default: 300, maximum: 86_400) == 60)
        #expect(policy.ttlSeconds(asked: 5, default: 300, maximum: 86_400) == 5)
        #expect(policy.ttlSeconds(asked: 100_000, default: 300, maximum: 86_400) == 86_400)
        policy.maximumTTLSeconds = 30
        #expect(policy.ttlSeconds(asked: nil, default: 300, maximum: 86_400) == 30)
        policy.maximumTTLSeconds = 100_000
        #expect(policy.ttlSeconds(asked: 100_000, default: 300, maximum: 86_400) == 86_400)
    }

    @Test("what chance has made is cached only where somebody says so")
    func generations() {
        let deterministic = CachePolicy(isOn: true)
        #expect(deterministic.permitsGeneration(temperatureMillis: 0, isAskedFor: false))
        #expect(!deterministic.permitsGeneration(temperatureMillis: nil, isAskedFor: true))
        #expect(!deterministic.permitsGeneration(temperatureMillis: 1, isAskedFor: true))
        let requested = CachePolicy(isOn: true, generations: .requested)
        #expect(requested.permitsGeneration(temperatureMillis: 700, isAskedFor: true))
        #expect(!requested.permitsGeneration(temperatureMillis: 700, isAskedFor: false))
        let none = CachePolicy(isOn: true, generations: .none)
        #expect(!none.permitsGeneration(temperatureMillis: 0, isAskedFor: true))
        #expect(!CachePolicy.off.permitsGeneration(temperatureMillis: 0, isAskedFor: true))
    }

    @Test("levels are read from their names") func levels() {
        #expect(CachePolicy.Levels(names: ["memory"])?.names == ["memory"])
        #expect(CachePolicy.Levels(names: ["table", "memory"])?.names == ["memory", "table"])
        for wrong in [[], ["redis"], ["memory", "memory"], ["memory", "disk"]] {
            #expect(CachePolicy.Levels(names: wrong) == nil)
        }
    }

    @Test("a hit costs its share of each count, rounded down") func charge() {
        let usage = Usage(inputTokens: 7, cachedInputTokens: 3, outputTokens: 101, source: .worker)
        #expect(
            usage.chargedForHit(percent: 100)
                == Usage(inputTokens: 7, cachedInputTokens: 3, outputTokens: 101, source: .cache))
        #expect(
            usage.chargedForHit(percent: 50)
                == Usage(inputTokens: 3, cachedInputTokens: 1, outputTokens: 50, source: .cache))
        #expect(usage.chargedForHit(percent: 0) == Usage(inputTokens: 0, outputTokens: 0, source: .cache))
        let most = Usage(inputTokens: .max, outputTokens: .max, source: .worker).chargedForHit(percent: 100)
        #expect(most.inputTokens == .max && most.outputTokens == .max)
    }

    @Test("a version is known where all who may answer have the same") func version() {
        func served(_ registered: String, _ versions: String..., requested: String? = nil) -> String? {
            let profile = ModelProfile(
                name: "m", version: registered, featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 1)
            let replicas = versions.enumerated().map {
                Replica(
                    address: WorkerAddress(host: "h", port: $0.offset + 1), workerProtocol: .predict, weight: 1,
                    version: $0.element)
            }
            return RouteTable([ModelRoute(profile: profile, replicas: replicas)], source: .registry)
                .resolve(model: "m", version: requested, stickiness: { _, _ in false }, draw: { 0 })?.servedVersion
        }
        #expect(served("1", "", "") == "1")
        #expect(served("1", "1", "") == "1")
        #expect(served("1", "1", "2", requested: "2") == "2")
        #expect(served("", "") == nil)
        #expect(served("1") == "1", "what is cached is there without a worker")
        #expect(served("") == nil)
        #expect(served("", "2", "2") == "2")
    }
}

@Suite("Cache instructions") struct CacheInstructionTests {
    private func read(
        _ control: [String] = [], use: [String] = [], ttl: [String] = [], label: [String] = []
    ) throws(Refusal) -> CacheInstruction {
        try CacheInstruction(control: control, use: use, ttl: ttl, label: label)
    }

    @Test("the directives of Cache-Control mean what RFC 9111 says") func control() throws {
        #expect(try read() == .standard)
        #expect(try read(["no-store"]).use == .bypass)
        #expect(try read(["No-Cache"]).use == .refresh)
        #expect(try read(["only-if-cached, max-age=10"]).use == .only)
        #expect(try read(["max-age=10", "max-age=\"5\""]).maximumAgeSeconds == 5)
        #expect(try read(["max-age=0"]).maximumAgeSeconds == 0)
        #expect(try read(["no-transform, foo=bar,,"]) == .standard)
        let impossible = try read(["only-if-cached, no-cache"])
        #expect(impossible.use == .only && impossible.maximumAgeSeconds == -1)
    }

    @Test("our own field has the last word") func own() throws {
        let instruction = try read(["no-cache"], use: ["use"], ttl: [" 30 "], label: ["user123_a:b-c.d"])
        #expect(instruction.use == .use && instruction.maximumAgeSeconds == nil)
        #expect(instruction.ttlSeconds == 30 && instruction.label == "user123_a:b-c.d")
        #expect(try read(use: ["ONLY"]).use == .only)
    }

    @Test("a time beyond all measure is the greatest that is counted") func overflow() throws {
        for text in ["2147483648", "99999999999", String(repeating: "9", count: 500)] {
            #expect(try read(["max-age=\(text)"]).maximumAgeSeconds == 2_147_483_648)
        }
        #expect(try read(["max-age=31536001"]).maximumAgeSeconds == 31_536_001)
        #expect(try read(["max-age=00000000000060"]).maximumAgeSeconds == 60)
    }

    @Test("what is asked for besides stays where our own field has the last word") func age() throws {
        for control in ["no-cache, max-age=60", "max-age=60, no-cache"] {
            let instruction = try read([control], use: ["use"])
            #expect(instruction.use == .use && instruction.maximumAgeSeconds == 60)
        }
        #expect(try read(["max-age=60, no-cache"]).use == .refresh)
    }

    @Test("no request is read without a bound") func bounds() throws {
        #expect(try read([String(repeating: "a", count: 1_024)]) == .standard)
        #expect(throws: Refusal.self) { try read([String(repeating: "a", count: 1_025)]) }
        #expect(throws: Refusal.self) { try read(Array(repeating: String(repeating: "a", count: 100), count: 11)) }
        #expect(try read([String(repeating: "a,", count: 64)]) == .standard)
        #expect(throws: Refusal.self) { try read([String(repeating: "a,", count: 65)]) }
        #expect(throws: Refusal.self) {
            try read([String(repeating: "a", count: 1_001)], label: ["this_is_a_label_too_many"])
        }
    }

    @Test("what cannot be meant is refused") func wrong() {
        for control in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=1x"] {
            #expect(throws: Refusal.self) { try read([control]) }
        }
        #expect(throws: Refusal.self) { try read(use: ["perhaps"]) }
        #expect(throws: Refusal.self) { try read(use: ["use", "use"]) }
        for ttl in ["0", "", "-1", "1s", "31536001", "99999999999999999999"] {
            #expect(throws: Refusal.self) { try read(ttl: [ttl]) }
        }
        for label in ["", "a b", "a*", "ä", String(repeating: "a", count: 129)] {
            #expect(throws: Refusal.self) { try read(label: [label]) }
        }
    }
}

@Suite("Clearing the cache") struct CacheClearingTests {
    private static let tenant = TenantID(high: 1, low: 1)
    private static let other = TenantID(high: 1, low: 2)

    @Test(
        "a star is any characters, a question mark is one",
        arguments: [
            ("user123_*", "user123_a", true), ("user123_*", "user123_", true), ("user123_*", "user1234_a", false),
            ("*", "anything", true), ("a?c", "abc", true), ("a?c", "ac", false), ("*_a", "x_b_a", true),
            ("a*b*c", "aXXbYYc", true), ("a*b*c", "aXXbYY", false), ("a", "a", true), ("a", "b", false),
        ])
    func pattern(pattern: String, label: String, expected: Bool) {
        #expect(CachePattern.matches(pattern, label) == expected)
    }

    @Test("a pattern takes no time out of proportion") func hostile() {
        let pattern = String(repeating: "*a", count: 64)
        #expect(!CachePattern.matches(pattern, String(repeating: "a", count: 63) + "b"))
    }

    @Test("a clearing concerns what is older, in its scope, and nobody else's")
    func scopes() {
        let clearings = CacheClearings([
            CacheClearing(sequence: 3, tenantID: Self.tenant, model: nil, pattern: nil),
            CacheClearing(sequence: 5, tenantID: Self.tenant, model: "iris", pattern: nil),
            CacheClearing(sequence: 7, tenantID: Self.tenant, model: nil, pattern: "user1_*"),
            CacheClearing(sequence: 9, tenantID: nil, model: "churn", pattern: nil),
        ])
        func cleared(_ sequence: Int64, _ tenant: TenantID, _ model: String, _ label: String? = nil) -> Bool {
            clearings.hasCleared(since: sequence, tenantID: tenant, model: model, label: label)
        }
        #expect(clearings.newest == 9)
        #expect(cleared(2, Self.tenant, "other") && !cleared(3, Self.tenant, "other"))
        #expect(cleared(4, Self.tenant, "iris") && !cleared(5, Self.tenant, "iris"))
        #expect(cleared(6, Self.tenant, "iris", "user1_x") && !cleared(6, Self.tenant, "iris", "user2_x"))
        #expect(!cleared(7, Self.tenant, "iris", "user1_x"))
        #expect(!cleared(0, Self.other, "iris", "user1_x"))
        #expect(cleared(8, Self.other, "churn") && cleared(8, Self.tenant, "churn") && !cleared(9, Self.other, "churn"))
    }
}
