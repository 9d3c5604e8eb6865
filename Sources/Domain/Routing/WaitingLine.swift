/// Who waits for a free replica, in order of arrival, bounded in number. A pure value.
public struct WaitingLine<Waiter: AnyObject> {
    private var waiters: [Waiter] = []
    private let limit: Int

    /// - Parameter limit: the most who wait; 0 lets nobody.
    public init(limit: Int) {
        self.limit = max(0, limit)
    }

    public var count: Int { waiters.count }

    /// - Returns: whether there was room.
    public mutating func enter(_ waiter: Waiter) -> Bool {
        guard waiters.count < limit else { return false }
        waiters.append(waiter)
        return true
    }

    /// - Returns: whether it was waiting.
    public mutating func leave(_ waiter: Waiter) -> Bool {
        guard let index = waiters.firstIndex(where: { $0 === waiter }) else { return false }
        waiters.remove(at: index)
        return true
    }

    /// Takes out the first who can be served, and what serves it.
    public mutating func takeFirst<Turn>(_ serve: (Waiter) -> Turn?) -> (waiter: Waiter, turn: Turn)? {
        for (index, waiter) in waiters.enumerated() {
            if let turn = serve(waiter) {
                waiters.remove(at: index)
                return (waiter, turn)
            }
        }
        return nil
    }

    /// Takes out all who have waited long enough.
    public mutating func takeAll(where isOver: (Waiter) -> Bool) -> [Waiter] {
        let over = waiters.filter(isOver)
        if !over.isEmpty { waiters.removeAll(where: isOver) }
        return over
    }
}

extension WaitingLine: Sendable where Waiter: Sendable {}
