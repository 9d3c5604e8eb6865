internal import Domain
internal import Synchronization

/// What this process served since it started, for each tenant, model and version: the figures that the statistics extension of the Open
/// Inference Protocol shows. They are no accounts; usage is charged and reported by the ledger alone.
final class InferenceStatistics: Sendable {
    /// Tenants with models and versions that are kept at most; what comes beyond is not counted.
    private static let limit = 16_384

    struct Subject: Hashable, Sendable {
        let tenantID: TenantID
        /// The real model's name.
        let model: String
        let version: String
    }

    struct Tally: Sendable, Equatable {
        var succeeded = Duration()
        var failed = Duration()
        /// Until a worker or the cache was asked.
        var queue = Duration()
        /// With the worker.
        var compute = Duration()
        var hits = Duration()
        var misses = Duration()
        /// Rows that workers answered; those that the cache answered are none of them.
        var inferences: Int64 = 0
        /// Requests that workers answered.
        var executions: Int64 = 0
        var lastAt: Timestamp?

        struct Duration: Sendable, Equatable {
            var count: Int64 = 0
            var nanoseconds: Int64 = 0

            mutating func add(_ nanoseconds: UInt64) {
                count += 1
                self.nanoseconds &+= Int64(clamping: nanoseconds)
            }
        }

        mutating func succeed(_ timings: StageTimings, rows: Int64, cache: CacheStatus?, at now: Timestamp) {
            let before = timings.authenticate &+ timings.route &+ timings.quota
            succeeded.add(before &+ timings.upstream &+ timings.settle)
            queue.add(before)
            lastAt = now
            if cache?.isServedFromCache ?? false { return hits.add(timings.upstream) }
            if cache != nil { misses.add(timings.upstream) }
            compute.add(timings.upstream)
            inferences += rows
            executions += 1
        }
    }

    private let tallies = Mutex<[Subject: Tally]>([:])

    func change(_ subject: Subject, _ body: (inout Tally) -> Void) {
        tallies.withLock { tallies in
            guard tallies.count < Self.limit || tallies[subject] != nil else { return }
            body(&tallies[subject, default: Tally()])
        }
    }

    /// By version.
    func tallies(of model: String, tenantID: TenantID) -> [String: Tally] {
        tallies.withLock { tallies in
            var found: [String: Tally] = [:]
            for (subject, tally) in tallies where subject.model == model && subject.tenantID == tenantID {
                found[subject.version] = tally
            }
            return found
        }
    }
}
