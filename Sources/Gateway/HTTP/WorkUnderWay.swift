/// How many requests of each model wait for a worker or are with one, on one event loop.
///
/// A list and no dictionary: there are few models, and equal names nearly always share their bytes.
struct WorkUnderWay {
    /// More models than this are not counted: their requests are in no depth.
    static let modelLimit = 64

    private(set) var counts: [(model: String, count: Int)] = []

    /// - Returns: what ``leave(_:)`` wants back.
    mutating func enter(_ model: String) -> Int? {
        var slot = 0
        while slot < counts.count {
            if counts[slot].model == model {
                counts[slot].count += 1
                return slot
            }
            slot += 1
        }
        guard slot < Self.modelLimit else { return nil }
        counts.append((model, 1))
        return slot
    }

    mutating func leave(_ slot: Int?) {
        if let slot { counts[slot].count -= 1 }
    }
}
