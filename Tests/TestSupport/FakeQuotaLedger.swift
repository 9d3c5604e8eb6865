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
        var givenBack: [LeaseReturn] = []
        var scarce: Set<LeaseID> = []
        var exceeded: Set<QuotaID> = []
        var isAway = false
        var sliceLimit = Int64.max
        var databaseTime: Timestamp?
        var gatewayTime: (any TimeSource)?
    }

    private let state = Mutex(State())
    /// Every acquisition passes it.
    public let gate: Gate

    public init(gate: Gate = Gate(isOpen: true)) { self.gate = gate }

    public var requests: [LeaseRequest] { state.withLock { $0.requests } }
    public var renewed: [[LeaseID]] { state.withLock { $0.renewed } }
    public var closed: [LeaseID] { state.withLock { $0.closed } }
    /// What was given back, with a request for more or by itself.
    public var givenBack: [LeaseReturn] { state.withLock { $0.givenBack } }
    public var openLeases: Set<LeaseID> { state.withLock { Set($0.open.keys) } }

    public var isAway: Bool {
        get { state.withLock { $0.isAway } }
        set { state.withLock { $0.isAway = newValue } }
    }

    /// No slice is larger than this.
    public func limitSlices(to units: Int64) { state.withLock { $0.sliceLimit = units } }

    /// The database's clock; a period that it is not in is not granted. `nil` believes the gateway.
    public var databaseTime: Timestamp? {
        get { state.withLock { $0.databaseTime } }
        set { state.withLock { $0.databaseTime = newValue } }
    }

    /// The clock that is believed while ``databaseTime`` is `nil`.
    public func believe(_ time: any TimeSource) { state.withLock { $0.gatewayTime = time } }

    /// What is held of a quota in all its periods.
    public func held(of quota: QuotaID) -> Int64 {
        state.withLock { $0.held.reduce(0) { $0 + ($1.key.quota == quota ? $1.value : 0) } }
    }

    /// The period of an open lease's first quota.
    public func period(of lease: LeaseID) -> Period? { state.withLock { $0.open[lease]?.first?.period } }
    /// Every period of which something was ever held.
    public var periods: Set<Period> { state.withLock { Set($0.held.keys.map(\.period)) } }
    /// Says from now on that use went on beyond the limit of a quota.
    public func exceed(_ quota: QuotaID) { state.withLock { _ = $0.exceeded.insert(quota) } }

    /// Says at the next renewal that what this lease holds is missed elsewhere.
    public func makeScarce(_ lease: LeaseID) { state.withLock { _ = $0.scarce.insert(lease) } }

    /// Books usage that somebody else settled.
    public func settle(_ units: Int64, of quota: QuotaID) { state.withLock { $0.settled[quota, default: 0] += units } }

    /// Forgets a lease, as the reaper does with one that ran out.
    public func lose(_ lease: LeaseID) { state.withLock { Self.release(lease, in: &$0) } }

    public func acquire(_ request: LeaseRequest) async throws(StoreUnavailable) -> LeaseAnswer {
        state.withLock { $0.requests.append(request) }
        await gate.pass()
        let answer = state.withLock { $0.isAway ? nil : Self.answer(request, in: &$0) }
        guard let answer else { throw StoreUnavailable(cause: "the ledger is away") }
        return answer
    }

    private static func answer(_ request: LeaseRequest, in state: inout State) -> LeaseAnswer {
        if let now = state.databaseTime, request.wants.contains(where: { !$0.period.contains(now) }) {
            return .elsewhen(now)
        }
        if !request.isNew, state.open[request.leaseID] == nil { return .lost }
        for part in request.returns { giveBack(part, in: &state) }
        var grants: [LeaseAnswer.Grant] = []
        for want in request.wants {
            let settled = state.settled[want.quota.id, default: 0]
            let held = state.held[Account(quota: want.quota.id, period: want.period), default: 0]
            let free = want.quota.amount - settled - held
            if want.quota.mode.refuses, free < want.minimum {
                return .refused(
                    QuotaRefusal(
                        quota: want.quota, period: want.period, settled: settled, held: held, requested: want.need))
            }
            let granted =
                want.quota.mode.refuses
                ? max(want.minimum, min(want.wanted, free, state.sliceLimit)) : min(want.wanted, state.sliceLimit)
            grants.append(
                .init(
                    slice: Lease.Slice(quota: want.quota, period: want.period, granted: granted),
                    freeAfterwards: want.quota.mode.refuses ? max(0, free - granted) : free - granted,
                    settled: settled, isExceeded: state.exceeded.contains(want.quota.id)))
        }
        for grant in grants {
            state.held[Account(quota: grant.slice.quota.id, period: grant.slice.period), default: 0] +=
                grant.slice.granted
        }
        state.open[request.leaseID, default: []] += grants.map(\.slice)
        return .granted(grants, at: state.databaseTime ?? state.gatewayTime?.now ?? Timestamp(microsecondsSince1970: 0))
    }

    private static func giveBack(_ part: LeaseReturn, in state: inout State) {
        state.givenBack.append(part)
        guard let slice = state.open[part.leaseID]?.first(where: { $0.quota.id == part.quotaID }) else { return }
        state.held[Account(quota: part.quotaID, period: slice.period), default: 0] -= part.amount
        state.open[part.leaseID]?.append(
            Lease.Slice(quota: slice.quota, period: slice.period, granted: -part.amount))
    }

    public func renew(_ leases: [LeaseID]) async throws(StoreUnavailable) -> LeaseRenewal {
        let renewal = state.withLock { state -> LeaseRenewal? in
            state.renewed.append(leases)
            guard !state.isAway else { return nil }
            let open = Set(leases.filter { state.open[$0] != nil })
            let exceeded = open.map { lease in
                (lease, Set((state.open[lease] ?? []).map(\.quota.id)).intersection(state.exceeded))
            }
            return LeaseRenewal(
                open: open, scarce: open.intersection(state.scarce),
                exceeded: Dictionary(exceeded.filter { !$0.1.isEmpty }, uniquingKeysWith: { first, _ in first }))
        }
        guard let renewal else { throw StoreUnavailable(cause: "the ledger is away") }
        return renewal
    }

    public func giveBack(_ returns: [LeaseReturn]) async throws(StoreUnavailable) {
        let isAway = state.withLock { state -> Bool in
            guard !state.isAway else { return true }
            for part in returns { Self.giveBack(part, in: &state) }
            return false
        }
        if isAway { throw StoreUnavailable(cause: "the ledger is away") }
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
