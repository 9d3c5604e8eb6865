/// Who waits for a free replica, in order of arrival, bounded in number. A pure value.
///
/// Those who wait for the same replicas are one line, each with its own bound: whoever waits for replicas that are full keeps nobody from
/// others that are idle. Only the first of each line is ever looked at.
public struct WaitingLine<Key: Hashable, Waiter: AnyObject> {
    private struct Place {
        /// By arrival, over all lines.
        let number: UInt64
        let waiter: Waiter
    }

    private struct Line {
        var places: [Place] = []
        /// Those before it have been served. They are removed in bulk, so that to serve one does not move all the others.
        var firstIndex = 0

        var count: Int { places.count - firstIndex }
        var first: Place? { firstIndex < places.count ? places[firstIndex] : nil }

        mutating func removeFirst() {
            firstIndex += 1
            guard firstIndex * 2 > places.count else { return }
            places.removeFirst(firstIndex)
            firstIndex = 0
        }

        /// - Returns: those taken out.
        mutating func remove(where isOver: (Waiter) -> Bool) -> [Waiter] {
            var over: [Waiter] = []
            var rest: [Place] = []
            for place in places[firstIndex...] {
                if isOver(place.waiter) { over.append(place.waiter) } else { rest.append(place) }
            }
            places = rest
            firstIndex = 0
            return over
        }
    }

    /// None of them is empty.
    private var lines: [Key: Line] = [:]
    private var arrivals: UInt64 = 0
    private let limit: Int

    /// - Parameter limit: the most who wait in one line; 0 lets nobody.
    public init(limit: Int) {
        self.limit = max(0, limit)
    }

    /// In all lines.
    public var count: Int { lines.values.reduce(0) { $0 + $1.count } }

    public func isEmpty(for key: Key) -> Bool { lines[key] == nil }

    /// - Returns: whether there was room.
    public mutating func enter(_ waiter: Waiter, for key: Key) -> Bool {
        guard lines[key]?.count ?? 0 < limit else { return false }
        lines[key, default: Line()].places.append(Place(number: arrivals, waiter: waiter))
        arrivals += 1
        return true
    }

    /// - Returns: whether it was waiting.
    public mutating func leave(_ waiter: Waiter, for key: Key) -> Bool {
        guard let left = lines[key]?.remove(where: { $0 === waiter }), !left.isEmpty else { return false }
        forgetIfEmpty(key)
        return true
    }

    /// Takes out the one who has waited longest of those at the head of a line who can be served, and what serves it.
    public mutating func takeFirst<Turn>(_ serve: (Waiter) -> Turn?) -> (waiter: Waiter, turn: Turn)? {
        // Nearly always there is one line, which needs no order.
        let keys =
            lines.count == 1
            ? Array(lines.keys)
            : lines.sorted { $0.value.first?.number ?? 0 < $1.value.first?.number ?? 0 }.map(\.key)
        for key in keys {
            guard let waiter = lines[key]?.first?.waiter, let turn = serve(waiter) else { continue }
            lines[key]?.removeFirst()
            forgetIfEmpty(key)
            return (waiter, turn)
        }
        return nil
    }

    /// Takes out all who have waited long enough.
    public mutating func takeAll(where isOver: (Waiter) -> Bool) -> [Waiter] {
        var over: [Waiter] = []
        for key in Array(lines.keys) {
            over += lines[key]?.remove(where: isOver) ?? []
            forgetIfEmpty(key)
        }
        return over
    }

    private mutating func forgetIfEmpty(_ key: Key) {
        if lines[key]?.count == 0 { lines[key] = nil }
    }
}
