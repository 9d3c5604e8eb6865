internal import Domain

/// One choice among several replicas of a model. Goes over the candidates a few times and keeps nothing.
struct ReplicaChoice {
    private let candidates: [Replica]
    private let tried: [ReplicaState]
    private let balancing: Balancing
    private let draw: UInt64

    /// - Parameter draw: a random number; its halves serve the two draws.
    init(_ candidates: [Replica], excluding tried: [ReplicaState], balancing: Balancing, draw: UInt64) {
        self.candidates = candidates
        self.tried = tried
        self.balancing = balancing
        self.draw = draw
    }

    /// Takes a place: a trial that is due, else the one that balancing prefers, else any that is well and has room, else the least bad.
    func taken(mayForce: Bool, mayTry: Bool) -> ReplicaTurn? {
        var total: Int64 = 0
        for replica in candidates {
            guard let state = usable(replica) else { continue }
            if mayTry, state.condition == .trial, state.takeTrial() {
                return ReplicaTurn(replica: replica, state: state, isTrial: true)
            }
            if state.condition.isAvailable { total += state.weight(of: replica) }
        }
        guard total > 0 else { return mayForce ? leastBad() : nil }
        if let turn = preferred(total), turn.state.take() { return turn }
        for replica in candidates {
            if let state = usable(replica), state.condition.isAvailable, state.take() {
                return ReplicaTurn(replica: replica, state: state, isTrial: false)
            }
        }
        return nil
    }

    private func usable(_ replica: Replica) -> ReplicaState? {
        guard let state = replica.runtime as? ReplicaState, !tried.contains(where: { $0 === state }) else { return nil }
        return state
    }

    private func preferred(_ total: Int64) -> ReplicaTurn? {
        guard let first = drawn(draw >> 32, of: total, except: nil) else { return nil }
        let rest = total - first.state.weight(of: first.replica)
        guard balancing.compares, rest > 0,
            let second = drawn(draw & 0xFFFF_FFFF, of: rest, except: first.state)
        else { return first }
        return balancing.prefers(second.state.load(of: second.replica), to: first.state.load(of: first.replica))
            ? second : first
    }

    /// The replica in whose stretch of the total weight the number falls.
    private func drawn(_ number: UInt64, of total: Int64, except: ReplicaState?) -> ReplicaTurn? {
        // 32 random bits by a weight of at most 2^30 stay within 63 bits.
        var left = (Int64(number) * min(total, 1 << 30)) >> 32
        var last: ReplicaTurn?
        for replica in candidates {
            guard let state = usable(replica), state.condition.isAvailable, state !== except else { continue }
            last = ReplicaTurn(replica: replica, state: state, isTrial: false)
            left -= state.weight(of: replica)
            if left < 0 { return last }
        }
        // Weights may have changed since they were added up.
        return last
    }

    private func leastBad() -> ReplicaTurn? {
        var best: ReplicaTurn?
        for replica in candidates {
            guard let state = usable(replica) else { continue }
            let turn = ReplicaTurn(replica: replica, state: state, isTrial: false)
            guard let other = best?.state else {
                best = turn
                continue
            }
            let (rank, otherRank) = (state.condition.rawValue, other.condition.rawValue)
            if rank < otherRank || rank == otherRank && state.outstanding < other.outstanding { best = turn }
        }
        guard let best, best.state.take() else { return nil }
        return best
    }
}
