public import Domain
internal import Synchronization

/// Quota in memory, as strict as the database: slices of all quotas or of none, and never more than there is.
public final class FakeQuotaLedger: QuotaLedger {
    private struct Account: Hashable {
        let quota: QuotaID
        let period: Period
    }

    private struct State {
        var open: [LeaseID: [Lease.Slice]] = [:]
        var held: [Account: Int64] = [:]
        var settled: [QuotaID: Int64] = [:]
        var requests: [LeaseRequest] = []
        var renewed: [[LeaseID]] = []
        var closed: [LeaseID] = []
        var isAway = false
        var sliceLimit = Int64.max
    }

    private let state = Mutex(State())
    /// Every acquisition passes it.
    public let gate: Gate

    public init(gate: Gate = Gate(isOpen: true)) { self.gate = gate }

    public var requests: [LeaseRequest] { state.withLock { $0.requests } }
    public var renewed: [[LeaseID]] { state.withLock { $0.renewed } }
    public var closed: [LeaseID] { state.withLock { $0.closed } }
    public var openLeases: Set<LeaseID> { state.withLock { Set($0.open.keys) } }

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    /// No slice is larger than this.
    public func limitSlices(to units: Int64) { state.withLock { $0.sliceLimit = units } }

    /// Books usage that somebody else settled.
    public func settle(_ units: Int64, of quota: QuotaID) { state.withLock { $0.settled[quota, default: 0] += units } }

    /// Forgets a lease, as the reaper does with one that ran out.
    public func lose(_ lease: LeaseID) { state.withLock { Self.release(lease, in: &$0) } }

    public func acquire(_ request: LeaseRequest) async throws(StoreUnavailable) -> LeaseAnswer {
        state.withLock { $0.requests.append(request) }
        await gate.pass()
        let answer = state.withLock { state -> LeaseAnswer? in
            guard !state.isAway else { return nil }
            var grants: [LeaseAnswer.Grant] = []
            for want in request.wants {
                let account = Account(quota: want.quota.id, period: want.period)
                let settled = state.settled[want.quota.id, default: 0]
                let held = state.held[account, default: 0]
                let free = want.quota.amount - settled - held
                if want.quota.mode == .hard, free < want.minimum {
                    return .refused(
                        QuotaRefusal(
                            quota: want.quota, period: want.period, settled: settled, held: held,
                            requested: want.minimum))
                }
                let granted =
                    want.quota.mode == .soft ? want.wanted : max(want.minimum, min(want.wanted, free, state.sliceLimit))
                grants.append(
                    .init(
                        slice: Lease.Slice(quota: want.quota, period: want.period, granted: granted),
                        freeAfterwards: max(0, free - granted)))
            }
            for grant in grants {
                state.held[Account(quota: grant.slice.quota.id, period: grant.slice.period), default: 0] +=
                    grant.slice.granted
            }
            state.open[request.leaseID] = grants.map(\.slice)
            return .granted(grants)
        }
        guard let answer else { throw StoreUnavailable(cause: "the ledger is away") }
        return answer
    }

    public func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> Set<LeaseID> {
        let open = state.withLock { state -> Set<LeaseID>? in
            state.renewed.append(leases)
            return state.isAway ? nil : Set(leases.filter { state.open[$0] != nil })
        }
        guard let open else { throw StoreUnavailable(cause: "the ledger is away") }
        return open
    }

    public func close(_ leases: [LeaseID]) async throws(StoreUnavailable) {
        let isAway = state.withLock { state -> Bool in
            guard !state.isAway else { return true }
            state.closed += leases
            for lease in leases { Self.release(lease, in: &state) }
            return false
        }
        if isAway { throw StoreUnavailable(cause: "the ledger is away") }
    }

    private static func release(_ lease: LeaseID, in state: inout State) {
        for slice in state.open.removeValue(forKey: lease) ?? [] {
            state.held[Account(quota: slice.quota.id, period: slice.period), default: 0] -= slice.granted
        }
    }
}
