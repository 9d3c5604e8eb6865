public import Domain
public import Logging
internal import Metrics
internal import Synchronization

/// Refusals by quotas and rate limits on their way to the database, so that any gateway can explain them.
///
/// A refusal costs a place in memory and no I/O. Whoever is refused the most is the one who sends the most, so there is a bound for each
/// tenant and second and one for all; what is beyond is counted, not kept.
public final class RefusalBuffer: Sendable {
    public struct Limits: Sendable {
        /// Of one tenant, on this gateway.
        public var perTenantAndSecond = 10
        /// Of all tenants, between two flushes.
        public var waiting = 4_096
        public init() {}
    }

    private struct State {
        var waiting: [RefusalRecord] = []
        var second: UInt64 = 0
        /// Holds no more tenants than refusals were taken in this second.
        var counts: [TenantID: Int] = [:]
    }

    /// Rows of one statement.
    private static let batchLimit = 1_000
    private static let unkept = Counter(label: "weir_refusals_unkept_total")

    private let limits: Limits
    private let state = Mutex(State())

    public init(limits: Limits = Limits()) { self.limits = limits }

    /// Takes a refusal that a quota or a rate limit made; any other is left out.
    func note(
        _ refusal: Refusal, of requestID: RequestID, for principal: Principal, model: String, at now: Timestamp,
        monotonicNanoseconds: UInt64
    ) {
        guard let numbers = refusal.decidingNumbers else { return }
        let isKept = state.withLock { state in
            let second = monotonicNanoseconds / 1_000_000_000
            if second != state.second {
                state.second = second
                state.counts.removeAll(keepingCapacity: true)
            }
            guard state.waiting.count < limits.waiting,
                state.counts[principal.tenantID, default: 0] < limits.perTenantAndSecond
            else { return false }
            state.counts[principal.tenantID, default: 0] += 1
            state.waiting.append(
                RefusalRecord(
                    requestID: requestID, tenantID: principal.tenantID, keyID: principal.keyID, model: model,
                    code: refusal.code, refusedAt: now, numbers: numbers))
            return true
        }
        if !isKept { Self.unkept.increment() }
    }

    /// Writes what has gathered. What cannot be written is counted and forgotten: it explains, it does not charge.
    public func flush(to store: any RefusalStore, logger: Logger) async {
        let gathered = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for start in stride(from: 0, to: gathered.count, by: Self.batchLimit) {
            do throws(StoreUnavailable) {
                try await store.keep(Array(gathered[start..<min(start + Self.batchLimit, gathered.count)]))
            } catch {
                Self.unkept.increment(by: Int64(gathered.count - start))
                logger.warning("refusals could not be kept", metadata: ["cause": "\(error.cause)"])
                return
            }
        }
    }
}
