import Synchronization
import TestSupport
import Testing

@testable import Domain
@testable import Gateway

@Suite("Keys in memory") struct KeyCacheTests {
    private func code(_ keys: KeyCache, _ credentials: Credentials) async -> FailureCode? {
        do throws(Refusal) {
            _ = try await keys.customer(for: credentials)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a valid key is looked up once and then known")
    func known() async {
        let parts = await Installation()
        for _ in 0..<5 { #expect(await code(parts.keys, .one(parts.key.text)) == nil) }
        #expect(parts.directory.finds == [[parts.key.publicID]])
    }

    @Test("a hundred requests with one new key make one query")
    func singleFlight() async {
        let parts = await Installation()
        let gated = FakeKeyDirectory(gate: Gate())
        gated.put(Installation.record(parts.key, .customer(Installation.principal(), .active)))
        let keys = KeyCache(
            directory: gated, pepper: Installation.pepper, time: parts.time, logger: Installation.logger)
        let key = parts.key
        await withTaskGroup(of: FailureCode?.self) { group in
            for _ in 0..<100 { group.addTask { await code(keys, .one(key.text)) } }
            await gated.gate.arrivals(1)
            gated.gate.open()
            for await code in group { #expect(code == nil) }
        }
        #expect(gated.finds.count == 1)
    }

    @Test(
        "what is no key is refused before any query",
        arguments: [
            (Credentials.none, FailureCode.missingKey), (.unusable, .invalidAPIKey), (.conflicting, .badRequest),
            (.one([]), .invalidAPIKey),
            (.one(Array("' OR '1'='1".utf8)), .invalidAPIKey),
            (.one(Array("weir_live_0123456789AB_000000000000000000000000000000000sImyv".utf8)), .invalidAPIKey),
            (.one([UInt8](repeating: 0x41, count: 10_240)), .invalidAPIKey),
            (.one([UInt8](repeating: 0, count: 61)), .invalidAPIKey),
        ] as [(Credentials, FailureCode)])
    func noKey(credentials: Credentials, expected: FailureCode) async {
        let parts = await Installation()
        #expect(await code(parts.keys, credentials) == expected)
        #expect(parts.directory.finds.isEmpty)
    }

    @Test("an unknown key is asked for once in five seconds")
    func unknown() async {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        var random = SeededRandom(seed: 1)
        let key = APIKey(environment: .live, using: &random)
        for _ in 0..<3 { #expect(await code(parts.keys, .one(key.text)) == .invalidAPIKey) }
        #expect(parts.directory.finds.count == 1)
        time.advance(milliseconds: 4_999)
        #expect(await code(parts.keys, .one(key.text)) == .invalidAPIKey)
        #expect(parts.directory.finds.count == 1)
        time.advance(milliseconds: 2)
        #expect(await code(parts.keys, .one(key.text)) == .invalidAPIKey)
        #expect(parts.directory.finds.count == 2)
    }

    @Test("a key that was unknown works after the refresh that follows its making")
    func created() async throws {
        let parts = await Installation()
        var random = SeededRandom(seed: 1)
        let key = APIKey(environment: .live, using: &random)
        #expect(await code(parts.keys, .one(key.text)) == .invalidAPIKey)
        parts.directory.put(Installation.record(key, .customer(Installation.principal(), .active)))
        try await parts.keys.refresh()
        #expect(await code(parts.keys, .one(key.text)) == nil)
    }

    @Test("a refresh that began before a revocation and ends after it does not bring the key back")
    func overtaken() async throws {
        let parts = await Installation()
        let directory = OvertakenDirectory()
        let holder = KeyRecord.Holder.customer(Installation.principal(), .active)
        directory.keys.put(Installation.record(parts.key, holder))
        let keys = KeyCache(
            directory: directory, pepper: Installation.pepper, time: parts.time, logger: Installation.logger)
        #expect(await code(keys, .one(parts.key.text)) == nil)
        directory.keys.put(Installation.record(parts.key, holder))
        directory.holdNext()
        async let early: Void = keys.refresh()
        await directory.gate.arrivals(1)
        directory.keys.put(Installation.record(parts.key, holder, revokedAt: parts.time.now))
        try await keys.refresh()
        #expect(await code(keys, .one(parts.key.text)) == .invalidAPIKey)
        directory.gate.open()
        try await early
        #expect(await code(keys, .one(parts.key.text)) == .invalidAPIKey)
    }

    @Test("a key with the right public part and another secret is refused, known or not")
    func wrongSecret() async throws {
        let parts = await Installation()
        var random = SeededRandom(seed: 5)
        var text =
            Array(parts.key.text[..<23]) + (0..<32).map { _ in Base62.alphabet.randomElement(using: &random) ?? 0 }
        text += Base62.digits(of: CRC32.checksum(text))
        #expect(APIKey(parsing: text) != nil)
        #expect(await code(parts.keys, .one(text)) == .invalidAPIKey)
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        #expect(await code(parts.keys, .one(text)) == .invalidAPIKey)
    }

    @Test("a digest under another pepper is refused")
    func wrongPepper() async {
        let parts = await Installation()
        var random = SeededRandom(seed: 6)
        let key = APIKey(environment: .live, using: &random)
        parts.directory.put(
            Installation.record(
                key, .customer(Installation.principal(), .active), pepper: [UInt8](repeating: 1, count: 32)))
        #expect(await code(parts.keys, .one(key.text)) == .invalidAPIKey)
    }

    @Test("a revoked key is refused after the refresh, an expired one at its time")
    func revoked() async throws {
        let time = ManualTime(Installation.noon)
        let parts = await Installation(time: time)
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        let holder = KeyRecord.Holder.customer(Installation.principal(), .active)
        parts.directory.put(Installation.record(parts.key, holder, expiresAt: time.now.advanced(byMilliseconds: 1_000)))
        try await parts.keys.refresh()
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        time.advance(milliseconds: 1_000)
        #expect(await code(parts.keys, .one(parts.key.text)) == .invalidAPIKey)
        parts.directory.put(Installation.record(parts.key, holder))
        try await parts.keys.refresh()
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        parts.directory.put(Installation.record(parts.key, holder, revokedAt: time.now))
        try await parts.keys.refresh()
        #expect(await code(parts.keys, .one(parts.key.text)) == .invalidAPIKey)
        parts.directory.remove(parts.key.publicID)
        try await parts.keys.refresh()
        #expect(await code(parts.keys, .one(parts.key.text)) == .invalidAPIKey)
    }

    @Test(
        "a key that was verified is told from every other one of its public id, before and after another takes its place"
    )
    func verified() async throws {
        let parts = await Installation()
        for _ in 0..<3 { #expect(await code(parts.keys, .one(parts.key.text)) == nil) }
        for place in parts.key.text.indices {
            var text = parts.key.text
            text[place] = text[place] == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
            #expect(await code(parts.keys, .one(text)) == .invalidAPIKey, "byte \(place)")
        }
        #expect(await code(parts.keys, .one(parts.key.text + [0])) == .invalidAPIKey)
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)

        var random = SeededRandom(seed: 7)
        var text =
            Array(parts.key.text[..<23]) + (0..<32).map { _ in Base62.alphabet.randomElement(using: &random) ?? 0 }
        text += Base62.digits(of: CRC32.checksum(text))
        let successor = try #require(APIKey(parsing: text))
        parts.directory.put(Installation.record(successor, .customer(Installation.principal(), .active)))
        try await parts.keys.refresh()
        for _ in 0..<2 {
            #expect(await code(parts.keys, .one(parts.key.text)) == .invalidAPIKey)
            #expect(await code(parts.keys, .one(text)) == nil)
        }
    }

    @Test("a tag that was not remembered verifies nothing, whatever it is")
    func noTag() async {
        let parts = await Installation()
        let known = KnownKey(Installation.record(parts.key, .customer(Installation.principal(), .active)))
        for tag in [KeyedTag(high: 0, low: 0), KeyedTag(high: 0, low: 1), KeyedTag(high: 1, low: 0)] {
            #expect(!known.isVerified(tag))
        }
        known.remember(KeyedTag(high: 5, low: 6))
        #expect(known.isVerified(KeyedTag(high: 5, low: 6)))
        for tag in [KeyedTag(high: 5, low: 7), KeyedTag(high: 4, low: 6), KeyedTag(high: 0, low: 6)] {
            #expect(!known.isVerified(tag))
        }
    }

    @Test("a refresh reads nothing while nothing has changed")
    func unchanged() async throws {
        let parts = await Installation()
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        try await parts.keys.refresh()
        let count = parts.directory.finds.count
        for _ in 0..<3 { try await parts.keys.refresh() }
        #expect(parts.directory.finds.count == count)
    }

    @Test("a look-up that began before the revocation does not outlive the refresh after it")
    func lateLookUp() async throws {
        let parts = await Installation()
        let gated = FakeKeyDirectory(gate: Gate())
        let holder = KeyRecord.Holder.customer(Installation.principal(), .active)
        gated.put(Installation.record(parts.key, holder))
        let keys = KeyCache(
            directory: gated, pepper: Installation.pepper, time: parts.time, logger: Installation.logger)
        let key = parts.key
        // The look-up has read the key, and its answer is still on the way when the key is revoked and the refresh runs.
        async let first = code(keys, .one(key.text))
        await gated.gate.arrivals(1)
        gated.put(Installation.record(key, holder, revokedAt: parts.time.now))
        try await keys.refresh()
        gated.gate.open()
        _ = await first
        try await keys.refresh()
        #expect(await code(keys, .one(key.text)) == .invalidAPIKey)
    }

    @Test(
        "the state of the account decides after the key",
        arguments: [
            (KeyRecord.TenantState.suspended, FailureCode.tenantSuspended), (.unsubscribed, .tenantSuspended),
        ] as [(KeyRecord.TenantState, FailureCode)])
    func tenant(state: KeyRecord.TenantState, expected: FailureCode) async {
        let parts = await Installation()
        #expect(await code(parts.keys, .one(parts.addKey(Installation.principal(), state: state).text)) == expected)
    }

    @Test("an admin's key does nothing for customers, and a customer's key nothing for admins")
    func planes() async throws {
        let parts = await Installation()
        let admin = try parts.addAdminKey()
        #expect(await code(parts.keys, .one(admin.text)) == .wrongPlane)
        let principal = try await parts.keys.administrator(presenting: admin.text)
        #expect(principal.publicID == admin.publicID && principal.scopes == [.admin])
        func adminCode(_ key: [UInt8]?) async -> FailureCode? {
            do throws(Refusal) {
                _ = try await parts.keys.administrator(presenting: key)
                return nil
            } catch {
                return error.code
            }
        }
        #expect(await adminCode(parts.key.text) == .wrongPlane)
        #expect(await adminCode(nil) == .missingKey)
        #expect(await adminCode([1, 2, 3]) == .invalidAPIKey)
    }

    @Test("with the directory away a new key cannot be judged, a known one works on")
    func away() async {
        let parts = await Installation()
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        let other = parts.addKey(Installation.principal())
        parts.directory.isAway = true
        #expect(await code(parts.keys, .one(other.text)) == .meteringUnavailable)
        #expect(await code(parts.keys, .one(parts.key.text)) == nil)
        await #expect(throws: StoreUnavailable.self) { try await parts.keys.refresh() }
        parts.directory.isAway = false
        #expect(await code(parts.keys, .one(other.text)) == nil, "the failure was not remembered")
    }
}

/// A directory one of whose answers comes late.
private final class OvertakenDirectory: KeyDirectory {
    let keys = FakeKeyDirectory()
    let gate = Gate()
    private let holdsNext = Mutex(false)

    func holdNext() { holdsNext.withLock { $0 = true } }

    func find(_ publicIDs: [APIKey.PublicID]) async throws(StoreUnavailable) -> [KeyRecord] {
        let found = try await keys.find(publicIDs)
        let isHeld = holdsNext.withLock { holds in
            defer { holds = false }
            return holds
        }
        if isHeld { await gate.pass() }
        return found
    }

    func generation() async throws(StoreUnavailable) -> Int64 { try await keys.generation() }
}
