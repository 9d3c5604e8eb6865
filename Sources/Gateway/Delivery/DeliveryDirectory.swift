public import Domain
public import Logging
internal import Synchronization

/// Every model's delivery, kept from one route table to the next, and the upkeep of them all.
public final class DeliveryDirectory: Sendable {
    private struct State {
        var models: [String: ModelDelivery] = [:]
        /// Out of the table. A request that was routed before may still come to wait.
        var leaving: [(model: ModelDelivery, untilMilliseconds: Int64)] = []
        var keptMilliseconds: Int64 = 0
        var recordedMilliseconds: Int64 = 0
    }

    /// Longer than a request waits for quota or the cache after it was routed.
    private static let leastLeaveMilliseconds: Int64 = 60_000

    private let defaults: DeliveryPolicy
    private let time: any TimeSource
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameter defaults: what holds where a model's settings say nothing.
    public init(defaults: DeliveryPolicy, time: any TimeSource, logger: Logger) {
        self.defaults = defaults
        self.time = time
        self.logger = logger
    }

    private var nowMilliseconds: Int64 { Int64(time.monotonicNanoseconds / 1_000_000) }
    private var models: [ModelDelivery] { state.withLock { Array($0.models.values) } }

    // MARK: route tables

    /// The table with what is known of each replica bound to it. What is known survives by model and address; a model whose settings have
    /// changed begins anew.
    func bind(_ table: RouteTable) -> RouteTable {
        let now = nowMilliseconds
        return state.withLock { state in
            var kept: [String: ModelDelivery] = [:]
            let bound = table.bindingReplicas { route in
                let name = route.profile.name
                let known = state.models[name].flatMap { $0.settings == route.profile.delivery ? $0 : nil }
                let model = known ?? make(route.profile)
                kept[name] = model
                let entries = bind(route.replicas, to: model, isNew: known == nil, at: now)
                model.set(entries)
                return entries.map(\.replica)
            }
            // What has left the table lets go of its replicas, which hold on to it.
            for (name, model) in state.models where kept[name] !== model {
                model.set([])
                state.leaving.append((model, now + max(model.policy.totalMilliseconds, Self.leastLeaveMilliseconds)))
            }
            state.models = kept
            return bound
        }
    }

    private func make(_ profile: ModelProfile) -> ModelDelivery {
        ModelDelivery(
            name: profile.name, settings: profile.delivery, policy: defaults.overridden(by: profile.delivery),
            time: time, logger: logger, seed: UInt64.random(in: .min ... .max))
    }

    private func bind(_ replicas: [Replica], to model: ModelDelivery, isNew: Bool, at now: Int64)
        -> [ModelDelivery.Entry]
    {
        let before = Dictionary(model.entries.map { ($0.state.address, $0.state) }) { first, _ in first }
        var known = before
        return replicas.map { replica in
            // Also of a worker that stands in the table with several versions: it is one process.
            if let state = known[replica.address] {
                return ModelDelivery.Entry(replica: replica.bound(to: state), state: state)
            }
            let firstProbe = now + Int64.random(in: 0...min(model.policy.probe.intervalMilliseconds, 500))
            let state = ReplicaState(
                at: replica.address, model: model, startsSlowly: !isNew && !before.isEmpty, at: now,
                firstProbeAt: firstProbe)
            known[replica.address] = state
            return ModelDelivery.Entry(replica: replica.bound(to: state), state: state)
        }
    }

    // MARK: upkeep

    /// Moves what time moves: breakers, shares, budgets, and who has waited too long. To be called about twenty times a second, by one task.
    public func keep() {
        let now = nowMilliseconds
        let (elapsed, isRecordDue, leaving) = state.withLock { state in
            let elapsed = state.keptMilliseconds == 0 ? 0 : now - state.keptMilliseconds
            state.keptMilliseconds = now
            let isRecordDue = now - state.recordedMilliseconds >= 1_000
            if isRecordDue { state.recordedMilliseconds = now }
            state.leaving.removeAll { $0.untilMilliseconds <= now && $0.model.waiting == 0 }
            return (elapsed, isRecordDue, state.leaving)
        }
        for (model, _) in leaving { model.keep(at: now, elapsedMilliseconds: 0) }
        for model in models {
            model.keep(at: now, elapsedMilliseconds: elapsed)
            if isRecordDue { model.record() }
        }
    }

    // MARK: probes

    /// A question that is due, and all whom its answer concerns.
    struct DueProbe: Sendable {
        let address: WorkerAddress
        let path: String
        let isOwnPath: Bool
        let timeoutMilliseconds: Int64
        let states: [ReplicaState]
    }

    private struct ProbeKey: Hashable {
        let address: WorkerAddress
        let path: String
    }

    /// The probes whose time has come. What one replica of an address asks answers for all of them, whatever their models.
    func dueProbes() -> [DueProbe] {
        let now = nowMilliseconds
        var asking: [ProbeKey: [(state: ReplicaState, probe: DeliveryPolicy.Probe)]] = [:]
        for model in models {
            let probe = model.policy.probe
            guard probe.intervalMilliseconds > 0 else { continue }
            for entry in model.entries {
                let path = probe.path ?? entry.replica.workerProtocol.healthPath
                asking[ProbeKey(address: entry.replica.address, path: path), default: []].append((entry.state, probe))
            }
        }
        return asking.compactMap { key, group in
            guard group.contains(where: { $0.state.isProbeDue(at: now) }) else { return nil }
            let begun = group.filter { state, probe in
                // A fifth more or less, so that gateways that started together do not ask together.
                let jitter = probe.intervalMilliseconds / 5
                return state.beginProbe(next: now + probe.intervalMilliseconds + Int64.random(in: -jitter...jitter))
            }
            guard !begun.isEmpty else { return nil }
            return DueProbe(
                address: key.address, path: key.path, isOwnPath: begun.contains { $0.probe.path != nil },
                timeoutMilliseconds: begun.map(\.probe.timeoutMilliseconds).max() ?? 0, states: begun.map(\.state))
        }
    }

    func ended(_ probe: DueProbe, _ event: ProbeTally.Event) {
        let now = nowMilliseconds
        for state in probe.states {
            if let transition = state.endProbe(event, at: now) { state.model.note(transition, of: state) }
        }
    }

    // MARK: what is shown

    /// Every replica of the table, by model and address.
    public var readings: [ReplicaReading] {
        let (monotonic, wall) = (nowMilliseconds, time.now)
        return models.flatMap { model in
            model.entries.map { entry in
                entry.state.reading(of: entry.replica) { wall.advanced(byMilliseconds: $0 - monotonic) }
            }
        }.sorted { ($0.model, "\($0.replica.address)") < ($1.model, "\($1.replica.address)") }
    }

    /// How many requests of each model waited for a replica or were with one, at most, since this was last asked for. To be asked by one.
    public func takeDepths() -> [String: Int64] { Dictionary(models.map { ($0.name, $0.takeDeepest()) }) { $0 + $1 } }

    /// Models that have replicas, none of which is healthy, by name.
    public var strandedModels: [String] { models.filter(\.isStranded).map(\.name).sorted() }
}

extension WorkerProtocol {
    /// Where a worker says whether it is there. The first is part of the Open Inference Protocol, the other a habit.
    var healthPath: String {
        switch self {
        case .oip: "/v2/health/ready"
        case .predict: "/healthz"
        // What the servers of that API have in common.
        case .openai: "/health"
        }
    }
}
