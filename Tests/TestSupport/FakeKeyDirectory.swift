public import Domain
internal import Synchronization

/// Keys in memory, with a generation that every change increases.
public final class FakeKeyDirectory: KeyDirectory {
    private struct State {
        var records: [APIKey.PublicID: KeyRecord] = [:]
        var generation: Int64 = 1
        var finds: [[APIKey.PublicID]] = []
        var isAway = false
    }

    private let state = Mutex(State())
    /// Every look-up passes it, after it has read.
    public let gate: Gate

    public init(gate: Gate = Gate(isOpen: true)) { self.gate = gate }

    /// What was looked up, in order.
    public var finds: [[APIKey.PublicID]] { state.withLock { $0.finds } }

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    /// Adds or replaces a key.
    public func put(_ record: KeyRecord) {
        state.withLock { state in
            state.records[record.publicID] = record
            state.generation += 1
        }
    }

    public func remove(_ publicID: APIKey.PublicID) {
        state.withLock { state in
            state.records[publicID] = nil
            state.generation += 1
        }
    }

    public func find(_ publicIDs: [APIKey.PublicID]) async throws(StoreUnavailable) -> [KeyRecord] {
        let found = state.withLock { state -> [KeyRecord]? in
            state.finds.append(publicIDs)
            return state.isAway ? nil : publicIDs.compactMap { state.records[$0] }
        }
        await gate.pass()
        guard let found else { throw StoreUnavailable(cause: "the directory is away") }
        return found
    }

    public func generation() async throws(StoreUnavailable) -> Int64 {
        let generation = state.withLock { $0.isAway ? nil : $0.generation }
        guard let generation else { throw StoreUnavailable(cause: "the directory is away") }
        return generation
    }
}
