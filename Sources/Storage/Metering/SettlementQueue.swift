internal import Domain

/// A settlement on its way, and who waits for it.
struct PendingSettlement: Sendable {
    let settlement: Settlement
    let lane: any CompletionLane
    let completion: @Sendable (SettlementResult) -> Void
    let queuedAtNanoseconds: UInt64
}

/// The bounded queue in front of a writer: a value; the writer keeps it behind a lock.
struct SettlementQueue {
    enum Admission {
        /// Queued; the writer sleeps and has to be woken.
        case queuedAndWake
        case queued
        case overloaded
        case closed
    }

    private(set) var pending: [PendingSettlement] = []
    private var isSleeping = false
    private(set) var isClosed = false
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    mutating func add(_ entry: PendingSettlement) -> Admission {
        if isClosed { return .closed }
        guard pending.count < limit else { return .overloaded }
        pending.append(entry)
        guard isSleeping else { return .queued }
        isSleeping = false
        return .queuedAndWake
    }

    /// All that waits, up to `maximum`, oldest first. An empty answer marks the writer as asleep.
    mutating func take(_ maximum: Int) -> [PendingSettlement] {
        guard !pending.isEmpty else {
            isSleeping = true
            return []
        }
        if pending.count <= maximum {
            var taken: [PendingSettlement] = []
            swap(&taken, &pending)
            return taken
        }
        let taken = Array(pending.prefix(maximum))
        pending.removeFirst(maximum)
        return taken
    }

    /// What has waited since before `nanoseconds`.
    mutating func takeOlder(than nanoseconds: UInt64) -> [PendingSettlement] {
        let count = pending.firstIndex { $0.queuedAtNanoseconds >= nanoseconds } ?? pending.count
        let taken = Array(pending.prefix(count))
        pending.removeFirst(count)
        return taken
    }

    mutating func close() { isClosed = true }
}
