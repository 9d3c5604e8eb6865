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

    /// Whether one more would be taken.
    var hasRoom: Bool { !isClosed && pending.count < limit }

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
        let count = batchCount(maximum)
        if pending.count == count {
            var taken: [PendingSettlement] = []
            swap(&taken, &pending)
            // The next batch is likely to be as large: its memory is taken at once and not in steps.
            pending.reserveCapacity(count)
            return taken
        }
        let taken = Array(pending.prefix(count))
        pending.removeFirst(count)
        return taken
    }

    /// A statement of many large answers would run into the database's limits of time and size, and take its small neighbours with it.
    private static let batchByteLimit = 32 << 20

    /// At least one.
    private func batchCount(_ maximum: Int) -> Int {
        var bytes = 0
        for (index, entry) in pending.prefix(maximum).enumerated() {
            bytes += entry.settlement.keptBytes
            if bytes > Self.batchByteLimit { return max(index, 1) }
        }
        return min(pending.count, max(maximum, 1))
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

/// Who waits for the batch that is being written: a value; the writer keeps it behind a lock, because two threads tell callers.
struct BatchUnderWay {
    private var waiting: [PendingSettlement] = []
    private var size = 0
    /// Whether a row of the batch may be in the database without our knowing.
    var mayBeWritten = false

    mutating func begin(_ batch: [PendingSettlement]) {
        waiting = batch
        size = batch.count
        mayBeWritten = false
    }

    /// From now on rows may be in the database.
    /// - Returns: those of `part` whose callers have not been told.
    mutating func startSending(_ part: ArraySlice<PendingSettlement>) -> ArraySlice<PendingSettlement> {
        mayBeWritten = true
        guard part.count != waiting.count || part.count != size else { return part }
        let ids = Set(waiting.map(\.settlement.requestID))
        return part.filter { ids.contains($0.settlement.requestID) }[...]
    }

    /// Those of `part` whose callers have not been told. They are told now.
    mutating func take(_ part: ArraySlice<PendingSettlement>) -> [PendingSettlement] {
        var taken: [PendingSettlement] = []
        if part.count == size {
            swap(&taken, &waiting)
            return taken
        }
        let ids = Set(part.map(\.settlement.requestID))
        taken = waiting.filter { ids.contains($0.settlement.requestID) }
        waiting.removeAll { ids.contains($0.settlement.requestID) }
        return taken
    }

    /// Those who have waited since before `nanoseconds`.
    mutating func takeOlder(than nanoseconds: UInt64) -> [PendingSettlement] {
        guard waiting.contains(where: { $0.queuedAtNanoseconds < nanoseconds }) else { return [] }
        let taken = waiting.filter { $0.queuedAtNanoseconds < nanoseconds }
        waiting.removeAll { $0.queuedAtNanoseconds < nanoseconds }
        return taken
    }

    /// What those are told who cannot wait longer: nothing was written, unless a sending may yet take effect.
    var outcomeOfWaiting: SettlementResult { mayBeWritten ? .unknown : .unavailable }

    func isWaited(for part: ArraySlice<PendingSettlement>) -> Bool {
        guard part.count != size else { return !waiting.isEmpty }
        let ids = Set(part.map(\.settlement.requestID))
        return waiting.contains { ids.contains($0.settlement.requestID) }
    }
}
