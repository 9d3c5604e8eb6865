public import Domain
public import Logging
internal import Metrics
public import PostgresDriver
internal import Synchronization

/// Puts jobs into the queue, many in one commit: a batch is what arrived while the last one was committing.
///
/// A connection that is lost leaves the fate of a batch unknown; the same rows are sent again, which their keys make harmless, until that is
/// known or its callers cannot wait longer.
public final class SubmissionWriter: JobSubmitter {
    public struct Options: Sendable {
        /// Submissions that may wait for a commit.
        public var queueLimit = 20_000
        /// Bytes of them.
        public var queueBytesLimit = 134_217_728
        public var batchLimit = 500
        public var batchBytesLimit = 8_388_608
        /// How long a caller waits for the database.
        public var waitMilliseconds: UInt64 = 5_000
        /// Between two notices to dispatchers of other processes.
        public var noticeMilliseconds: UInt64 = 50
        public init() {}
    }

    private typealias Waiter = CheckedContinuation<[SubmissionResult], Never>

    /// What one caller submitted together.
    private struct Group: Sendable {
        let jobs: [JobSubmission]
        let bytes: Int
        let waiter: Waiter
        let deadlineNanoseconds: UInt64
    }

    private struct State {
        var groups: [Group] = []
        var jobs = 0
        var bytes = 0
        var isClosed = false
    }

    private let pool: PostgresPool
    private let gatewayID: GatewayID
    private let options: Options
    private let time: any TimeSource
    private let logger: Logger
    private let state = Mutex(State())
    private let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation
    private let onQueued: @Sendable () -> Void
    private let lastNotice = Atomic<UInt64>(0)
    private let batchSizes = Recorder(label: "weir_job_submission_batch_rows")
    private let submitted = Counter(label: "weir_jobs_submitted_total")

    /// - Parameters:
    ///   - pool: connections of the role `weir_writer`.
    ///   - onQueued: called after each commit that queued something; the dispatcher of this process.
    public init(
        pool: PostgresPool, gatewayID: GatewayID, options: Options = Options(), time: any TimeSource, logger: Logger,
        onQueued: @escaping @Sendable () -> Void = {}
    ) {
        self.pool = pool
        self.gatewayID = gatewayID
        self.options = options
        self.time = time
        self.logger = logger
        self.onQueued = onQueued
        (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    public func submit(_ submissions: [JobSubmission]) async -> [SubmissionResult] {
        var results: [SubmissionResult] = []
        results.reserveCapacity(submissions.count)
        for start in stride(from: 0, to: submissions.count, by: options.batchLimit) {
            results += await submit(
                group: Array(submissions[start..<min(start + options.batchLimit, submissions.count)]))
        }
        return results
    }

    private func submit(group jobs: [JobSubmission]) async -> [SubmissionResult] {
        let bytes = jobs.reduce(0) { $0 + $1.payload.count + 512 }
        return await withCheckedContinuation { waiter in
            let refusal = state.withLock { state -> SubmissionResult? in
                if state.isClosed { return .unavailable(isUnknown: false) }
                guard state.jobs + jobs.count <= options.queueLimit, state.bytes + bytes <= options.queueBytesLimit
                else {
                    return .overloaded
                }
                state.jobs += jobs.count
                state.bytes += bytes
                state.groups.append(
                    Group(
                        jobs: jobs, bytes: bytes, waiter: waiter,
                        deadlineNanoseconds: time.monotonicNanoseconds + options.waitMilliseconds * 1_000_000))
                return nil
            }
            guard let refusal else {
                wake.yield()
                return
            }
            waiter.resume(returning: jobs.map { _ in refusal })
        }
    }

    /// Writes until ``close()`` was called and everything is written.
    public func run() async {
        for await _ in wakes {
            while true {
                let groups = take()
                if groups.isEmpty { break }
                await write(groups)
            }
            if state.withLock({ $0.isClosed && $0.groups.isEmpty }) { return }
        }
    }

    /// Takes nothing more; what waits is still written.
    public func close() {
        state.withLock { $0.isClosed = true }
        wake.yield()
    }

    private func take() -> [Group] {
        state.withLock { state in
            var (count, jobs, bytes) = (0, 0, 0)
            for group in state.groups {
                guard
                    count == 0
                        || jobs + group.jobs.count <= options.batchLimit
                            && bytes + group.bytes <= options.batchBytesLimit
                else { break }
                count += 1
                jobs += group.jobs.count
                bytes += group.bytes
            }
            let taken = Array(state.groups.prefix(count))
            state.groups.removeFirst(count)
            state.jobs -= jobs
            state.bytes -= bytes
            return taken
        }
    }

    private func write(_ groups: [Group]) async {
        let jobs = groups.flatMap(\.jobs)
        // The first comer's patience: the others have at least as much.
        let deadline = groups.map(\.deadlineNanoseconds).min() ?? 0
        var results: [RequestID: SubmissionResult] = [:]
        await write(jobs[...], until: deadline, isUnknown: false, into: &results)
        batchSizes.record(jobs.count)
        submitted.increment(by: Int64(results.values.count { $0 == .queued }))
        let outcomes = results
        for group in groups {
            group.waiter.resume(
                returning: group.jobs.map { outcomes[$0.jobID] ?? .unavailable(isUnknown: false) })
        }
        guard outcomes.values.contains(.queued) else { return }
        onQueued()
        await notifyOthers()
    }

    private func write(
        _ jobs: ArraySlice<JobSubmission>, until deadline: UInt64, isUnknown wasUnknown: Bool,
        into results: inout [RequestID: SubmissionResult]
    ) async {
        var isUnknown = wasUnknown
        var pauseMilliseconds: UInt64 = 5
        while true {
            do throws(PostgresError) {
                let disowned = Set(try await pool.execute(SubmitJobs(gatewayID: gatewayID, jobs: Array(jobs))))
                for job in jobs { results[job.jobID] = disowned.contains(job.jobID) ? .claimLost : .queued }
                return
            } catch {
                isUnknown = isUnknown || error.outcomeUnknown || error.code == .decoding
                if error.blamesRows { return await halve(jobs, error, until: deadline, isUnknown, into: &results) }
                guard time.monotonicNanoseconds < deadline else {
                    logger.warning("jobs could not be queued", metadata: ["cause": "\(error)"])
                    for job in jobs { results[job.jobID] = .unavailable(isUnknown: isUnknown) }
                    return
                }
                try? await Task.sleep(nanoseconds: pauseMilliseconds * 1_000_000)
                pauseMilliseconds = min(pauseMilliseconds * 2, 250)
            }
        }
    }

    /// One row that the database refuses takes its neighbours with it: halves are written apart until it stands alone.
    private func halve(
        _ jobs: ArraySlice<JobSubmission>, _ error: PostgresError, until deadline: UInt64, _ isUnknown: Bool,
        into results: inout [RequestID: SubmissionResult]
    ) async {
        guard jobs.count > 1 else {
            if let job = jobs.first {
                results[job.jobID] = .rejected
                logger.error(
                    "the database refused a job",
                    metadata: ["request_id": "\(job.jobID.publicText)", "cause": "\(error)"])
            }
            return
        }
        let middle = jobs.startIndex + jobs.count / 2
        await write(jobs[..<middle], until: deadline, isUnknown: isUnknown, into: &results)
        await write(jobs[middle...], until: deadline, isUnknown: isUnknown, into: &results)
    }

    /// Dispatchers look by themselves a few times a second, so a notice that is left out delays nothing for long.
    private func notifyOthers() async {
        let now = time.monotonicNanoseconds
        guard now &- lastNotice.load(ordering: .relaxed) >= options.noticeMilliseconds * 1_000_000 else { return }
        lastNotice.store(now, ordering: .relaxed)
        do throws(PostgresError) {
            _ = try await pool.execute(NotifyJobs())
        } catch {
            logger.debug("dispatchers could not be told of jobs", metadata: ["cause": "\(error)"])
        }
    }
}
