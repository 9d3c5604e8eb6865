import Domain
import Synchronization
import TestSupport
import Testing

@testable import LedgerProof

@Suite("the ring of signing keys")
struct SigningKeyRingTests {
    @Test("a reading that began before a rotation and ends after it does not bring the old key back")
    func overtaken() async throws {
        let (old, new) = (try Sample.signer(byte: 1), try Sample.signer(byte: 2))
        let directory = RotatedDirectory(seed: 1)
        let ring = SigningKeyRing(directory: directory, time: ManualTime(now: Sample.now))
        try await ring.refresh()
        #expect(ring.signer?.id == old.id)
        directory.touch()
        directory.holdNext()
        async let early: Void = ring.refresh()
        await directory.gate.arrivals(1)
        directory.rotate(to: 2)
        try await ring.refresh()
        #expect(ring.signer?.id == new.id)
        directory.gate.open()
        try await early
        #expect(ring.signer?.id == new.id && ring.publicKeys.map(\.id) == [new.id])
    }
}

/// A directory of one key, one of whose answers comes late.
private final class RotatedDirectory: SigningKeyDirectory {
    let gate = Gate()
    private let state: Mutex<(seed: UInt8, generation: Int64, holdsNext: Bool)>

    init(seed: UInt8) { state = Mutex((seed, 1, false)) }

    func touch() { state.withLock { $0.generation += 1 } }
    func holdNext() { state.withLock { $0.holdsNext = true } }
    func rotate(to seed: UInt8) { state.withLock { ($0.seed, $0.generation) = (seed, $0.generation + 1) } }

    func signingKeys() async throws(StoreUnavailable) -> SigningKeys {
        let (seed, isHeld) = state.withLock { state in
            defer { state.holdsNext = false }
            return (state.seed, state.holdsNext)
        }
        if isHeld { await gate.pass() }
        guard let signer = try? Sample.signer(byte: seed) else { throw StoreUnavailable(cause: "no key") }
        return SigningKeys(keys: [Sample.key(signer)], activeSeed: [UInt8](repeating: seed, count: 32))
    }

    func generation() async throws(StoreUnavailable) -> Int64 { state.withLock { $0.generation } }
}
