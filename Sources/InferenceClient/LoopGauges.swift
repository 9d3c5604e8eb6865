internal import Synchronization

/// The counts of one loop. Changed by that loop alone and read by anyone, so a plain load and store make up a change:
/// two loops share no counter, and none needs a locked instruction.
final class LoopGauges: Sendable {
    private let open = Atomic(0)
    private let idle = Atomic(0)
    private let waiting = Atomic(0)

    func change(open openChange: Int, idle idleChange: Int, waiting waitingChange: Int) {
        if openChange != 0 { open.store(open.load(ordering: .relaxed) + openChange, ordering: .relaxed) }
        if idleChange != 0 { idle.store(idle.load(ordering: .relaxed) + idleChange, ordering: .relaxed) }
        if waitingChange != 0 { waiting.store(waiting.load(ordering: .relaxed) + waitingChange, ordering: .relaxed) }
    }

    func add(to sum: inout WorkerClient.Statistics) {
        sum.openConnections += open.load(ordering: .relaxed)
        sum.idleConnections += idle.load(ordering: .relaxed)
        sum.waitingRequests += waiting.load(ordering: .relaxed)
    }
}
