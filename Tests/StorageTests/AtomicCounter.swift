import Synchronization

final class AtomicCounter: Sendable {
    private let value = Atomic<Int>(0)

    /// 0, 1, 2, ...
    func next() -> Int { value.add(1, ordering: .relaxed).oldValue }
}
