public import Domain
internal import HTTPListener
internal import Logging
internal import Metrics
internal import NIOCore
internal import Synchronization

/// Runs jobs: claims as many as there are places for, sends each through the pipeline on an event loop, and gives back what was not
/// completed. Any number of processes may do so.
///
/// A claimed job is in `running` until it was settled or given back, and as long as it is, its lease is renewed. Nothing here decides whether an
/// attempt still holds its job: the database does, by the attempt's number.
public final class JobDispatcher: Sendable {
    public struct Configuration: Sendable {
        /// Jobs that run at once.
        public var concurrency = 32
        /// How often an idle dispatcher looks by itself.
        public var pollMilliseconds: Int64 = 200
        /// As the queue's: a third of it lies between two renewals.
        public var leaseMilliseconds: Int64 = 10_000
        public var backoff = JobBackoff()
        public init() {}
    }

    /// The most that one claim takes, so that a large answer of the database stays small.
    private static let claimLimit = 64

    private struct State {
        var running: Set<JobAttempt> = []
        /// Attempts that were not completed and are to be given back.
        var returns: [JobReturn] = []
        var isStopping = false
    }

    private let queue: any JobQueue
    private let pipeline: InferencePipeline
    private let keys: KeyCache
    private let loops: [LoopContext]
    private let waiters: JobWaiters?
    private let configuration: Configuration
    private let time: any TimeSource
    private let logger: Logger
    private let state = Mutex(State())
    private let wakes: AsyncStream<Void>
    private let wakeUp: AsyncStream<Void>.Continuation
    private let returnWakes: AsyncStream<Void>
    private let returnWakeUp: AsyncStream<Void>.Continuation
    private let metrics = JobMetrics()

    init(
        queue: any JobQueue, pipeline: InferencePipeline, keys: KeyCache, loops: [LoopContext], waiters: JobWaiters?,
        configuration: Configuration, time: any TimeSource, logger: Logger
    ) {
        self.queue = queue
        self.pipeline = pipeline
        self.keys = keys
        self.loops = loops
        self.waiters = waiters
        self.configuration = configuration
        self.time = time
        self.logger = logger
        (wakes, wakeUp) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (returnWakes, returnWakeUp) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// There may be jobs. Called from anywhere.
    public func wake() { wakeUp.yield() }

    /// Runs jobs until the task is cancelled; then all that run are given back at once, and this returns when their attempts have ended.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.tick() }
            group.addTask { await self.keepLeases() }
            group.addTask { await self.recover() }
            group.addTask { await self.flushReturns() }
            var after = TenantID(high: 0, low: 0)
            var nextLoop = 0
            for await _ in wakes {
                if Task.isCancelled { break }
                while let claim = await claim(after: after) {
                    after = claim.goOnAfter
                    for job in claim.jobs {
                        nextLoop = (nextLoop + 1) % loops.count
                        let loop = loops[nextLoop]
                        group.addTask(executorPreference: loop.executor) { await self.run(job, on: loop) }
                    }
                    // The tenants behind those that were looked at have their turn at the next wake.
                    if claim.jobs.isEmpty || Task.isCancelled { break }
                }
            }
            await giveAllBack()
            group.cancelAll()
            returnWakeUp.finish()
        }
    }

    /// - Returns: `nil` when there is no place, or the database cannot be asked.
    private func claim(after tenant: TenantID) async -> JobClaim? {
        var free = configuration.concurrency - state.withLock { $0.running.count }
        guard free > 0, !Task.isCancelled else { return nil }
        if free < configuration.concurrency / 4 {
            // Attempts that were settled together end one after the other; a claim costs the same for one as for several.
            try? await Task.sleep(nanoseconds: 2_000_000)
            free = configuration.concurrency - state.withLock { $0.running.count }
        }
        do throws(StoreUnavailable) {
            let claim = try await queue.claim(limit: min(free, Self.claimLimit), after: tenant)
            guard !claim.jobs.isEmpty else { return claim }
            metrics.claimed.increment(by: Int64(claim.jobs.count))
            state.withLock { state in
                for job in claim.jobs { state.running.insert(job.attempt) }
            }
            return claim
        } catch {
            if !Task.isCancelled {
                logger.warning("jobs could not be claimed", metadata: ["cause": "\(error.cause)"])
                try? await Task.sleep(nanoseconds: 250_000_000)
            }
            return nil
        }
    }

    // MARK: One attempt

    private func run(_ job: ClaimedJob, on loop: LoopContext) async {
        let start = time.monotonicNanoseconds
        switch await attempt(job, on: loop) {
        case .answered:
            metrics.completed.increment()
            metrics.waited.recordNanoseconds(
                max(0, time.now.milliseconds(since: job.submittedAt)) * 1_000_000)
            end(job.attempt)
        case .refused(let refusal, _) where refusal.isSuperseded:
            metrics.superseded.increment()
            end(job.attempt)
        case .refused(let refusal, _) where refusal.isOutcomeUnknown:
            // It may yet be settled. If it is not, its lease runs out and another attempt is made.
            end(job.attempt)
        case .refused(let refusal, _): giveBack(job, refusal)
        case .replayed, .queued, .streamed:
            giveBack(job, Refusal(.internalError, "", cause: "an attempt of a job that was not run"))
        }
        metrics.duration.recordNanoseconds(Int64(clamping: time.monotonicNanoseconds &- start))
    }

    private func attempt(_ job: ClaimedJob, on loop: LoopContext) async -> InferenceOutcome {
        let id = job.attempt.jobID
        guard let surface = Surface.allCases.first(where: { $0.operation == job.operation }) else {
            return .refused(Refusal(.internalError, "", cause: "no surface for \(job.operation)"), id)
        }
        do throws(Refusal) {
            let principal = try await keys.principal(of: job.publicID)
            let head = JobHead.read(job.headFields)
            var call = InferenceCall(
                requestID: id, receivedAt: time.now, receivedNanoseconds: time.monotonicNanoseconds,
                credentials: .none, body: ByteBuffer(bytes: job.payload), trace: head.trace,
                target: CallTarget(surface: surface, model: job.pathModel, version: job.pathVersion))
            call.cacheFields = head.cacheFields
            call.tagFields = head.tagFields
            call.attempt = job.attempt
            return await pipeline.serve(call, for: principal, on: loop)
        } catch {
            return .refused(error, id)
        }
    }

    private func giveBack(_ job: ClaimedJob, _ refusal: Refusal) {
        let disposition = JobDisposition.of(
            refusal, attempt: job.attempt.number, limit: job.attemptLimit, backoff: configuration.backoff,
            jitter: UInt64.random(in: .min ... .max))
        let item = JobReturn(
            attempt: job.attempt, disposition: disposition, code: refusal.code,
            detail: refusal.cause ?? refusal.detail)
        state.withLock { $0.returns.append(item) }
        returnWakeUp.yield()
    }

    private func end(_ attempt: JobAttempt) {
        _ = state.withLock { $0.running.remove(attempt) }
        waiters?.ended([attempt.jobID])
        wakeUp.yield()
    }

    // MARK: Beside the attempts

    private func tick() async {
        while !Task.isCancelled {
            wakeUp.yield()
            try? await Task.sleep(nanoseconds: UInt64(configuration.pollMilliseconds) * 1_000_000)
        }
        // Whoever waits for a wake has to learn of the cancellation.
        wakeUp.yield()
    }

    private func keepLeases() async {
        while !Task.isCancelled {
            try? await Task.sleep(nanoseconds: UInt64(max(configuration.leaseMilliseconds / 3, 50)) * 1_000_000)
            let running = state.withLock { Array($0.running) }
            metrics.running.record(running.count)
            guard !running.isEmpty, !Task.isCancelled else { continue }
            do throws(StoreUnavailable) {
                metrics.lost.increment(by: Int64(try await queue.renew(running).count))
            } catch {
                logger.warning("leases of jobs could not be renewed", metadata: ["cause": "\(error.cause)"])
            }
        }
    }

    /// Takes jobs from owners that have gone.
    private func recover() async {
        while !Task.isCancelled {
            try? await Task.sleep(nanoseconds: UInt64.random(in: 500_000_000...1_000_000_000))
            guard !Task.isCancelled else { return }
            do throws(StoreUnavailable) {
                let recovery = try await queue.recover(limit: 500, backoff: configuration.backoff)
                metrics.recovered.increment(by: Int64(recovery.returned))
                metrics.dead.increment(by: Int64(recovery.dead))
                if recovery.returned + recovery.dead > 0 {
                    logger.notice(
                        "jobs of a process that has gone were taken over",
                        metadata: ["returned": "\(recovery.returned)", "dead": "\(recovery.dead)"])
                    wakeUp.yield()
                }
            } catch {
                logger.debug("lost jobs could not be looked for", metadata: ["cause": "\(error.cause)"])
            }
        }
    }

    /// Attempts that failed while the last ones were being given back share a statement.
    private func flushReturns() async {
        for await _ in returnWakes {
            while true {
                let batch = state.withLock { state -> [JobReturn] in
                    let batch = Array(state.returns.prefix(500))
                    state.returns.removeFirst(batch.count)
                    return batch
                }
                if batch.isEmpty { break }
                await write(batch)
                for item in batch { end(item.attempt) }
            }
        }
    }

    private func write(_ batch: [JobReturn]) async {
        for pauseMilliseconds in [50, 200, 1_000, 0] as [UInt64] {
            do throws(StoreUnavailable) {
                let held = try await queue.giveBack(batch)
                for item in batch where held.contains(item.attempt) { metrics.count(item) }
                return
            } catch {
                // What is not given back has an end to its lease.
                logger.warning("failed jobs could not be given back", metadata: ["cause": "\(error.cause)"])
                try? await Task.sleep(nanoseconds: pauseMilliseconds * 1_000_000)
            }
        }
    }

    /// At a stop: others can have at once what runs here, and what its attempts come to is refused.
    private func giveAllBack() async {
        let returns = state.withLock { state -> [JobReturn] in
            state.isStopping = true
            return state.running.map {
                JobReturn(
                    attempt: $0, disposition: .giveBack(afterMilliseconds: 0), code: .overloaded,
                    detail: "the process that ran it was stopped")
            }
        }
        guard !returns.isEmpty else { return }
        do throws(StoreUnavailable) {
            _ = try await Self.shielded { [queue] () throws(StoreUnavailable) in try await queue.giveBack(returns) }
        } catch {
            logger.warning("jobs could not be given back at the stop", metadata: ["cause": "\(error.cause)"])
        }
    }

    /// Runs a statement although the task is cancelled, which would keep it from a connection. A child task would be cancelled with it; it is
    /// awaited here, so nothing runs on behind the dispatcher's back.
    private static func shielded(
        _ work: @escaping @Sendable () async throws(StoreUnavailable) -> Set<JobAttempt>
    ) async throws(StoreUnavailable) -> Set<JobAttempt> {
        let result: Result<Set<JobAttempt>, StoreUnavailable> = await Task.detached {
            do throws(StoreUnavailable) {
                return .success(try await work())
            } catch {
                return .failure(error)
            }
        }.value
        return try result.get()
    }
}

/// What dispatchers count.
struct JobMetrics: Sendable {
    let claimed = Counter(label: "weir_jobs_claimed_total")
    let completed = Counter(label: "weir_jobs_completed_total")
    let retried = Counter(label: "weir_jobs_retried_total")
    let failed = Counter(label: "weir_jobs_failed_total")
    let dead = Counter(label: "weir_jobs_dead_total")
    /// Attempts whose completion was refused: outrun or cancelled.
    let superseded = Counter(label: "weir_jobs_superseded_total")
    let recovered = Counter(label: "weir_jobs_recovered_total")
    /// Leases that were found to be another's when they were renewed.
    let lost = Counter(label: "weir_job_leases_lost_total")
    let running = Gauge(label: "weir_jobs_running")
    let duration = Timer(label: "weir_job_attempt_seconds")
    /// From submission to completion.
    let waited = Timer(label: "weir_job_turnaround_seconds")

    func count(_ item: JobReturn) {
        switch item.disposition {
        case .retry, .giveBack: retried.increment()
        case .fail: failed.increment()
        case .bury: dead.increment()
        }
    }
}
