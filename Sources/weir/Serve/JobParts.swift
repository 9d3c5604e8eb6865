import Domain
import Gateway
import Logging
import PostgresDriver
import ServiceLifecycle
import Storage
import Synchronization

/// What a process needs to take jobs in, to tell of them, and to run them.
struct JobParts: Sendable {
    let submission: SubmissionWriter
    let store: JobStore
    let gateway: GatewayServer.Jobs
    let relay = WakeRelay()
    let dispatcher: JobDispatcher.Configuration

    init(settings: Settings, pools: DatabasePools, gatewayID: GatewayID, time: any TimeSource, logger: Logger) {
        let lease = Int64(settings.jobLeaseSeconds) * 1_000
        let records = JobRecordStore(reader: pools.reader, writer: pools.queue)
        submission = SubmissionWriter(
            pool: pools.queue, gatewayID: gatewayID, time: time, logger: logger, onQueued: { [relay] in relay.wake() })
        store = JobStore(pool: pools.queue, gatewayID: gatewayID, leaseMilliseconds: lease)
        gateway = GatewayServer.Jobs(
            desk: JobDesk(submitter: submission, records: records, queuedLimit: settings.jobsPerTenant, time: time),
            records: records, waiters: JobWaiters(records: records, time: time, logger: logger))
        var configuration = JobDispatcher.Configuration()
        configuration.concurrency = settings.jobConcurrency
        configuration.leaseMilliseconds = lease
        configuration.backoff = JobBackoff(baseMilliseconds: Int64(settings.jobBackoffMilliseconds))
        dispatcher = configuration
    }
}

/// Tells the dispatcher of this process, if there is one, of jobs that were queued here.
final class WakeRelay: Sendable {
    private let dispatcher = Mutex<JobDispatcher?>(nil)

    func connect(_ dispatcher: JobDispatcher) { self.dispatcher.withLock { $0 = dispatcher } }

    func wake() { dispatcher.withLock { $0 }?.wake() }
}

/// Queues jobs while the process serves, and writes what waits at its end.
struct SubmissionService: Service {
    let submission: SubmissionWriter

    func run() async throws {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await submission.run() }
            try? await gracefulShutdown()
            submission.close()
        }
    }
}

/// Works on batches while the process serves.
struct BatchService: Service {
    let keeper: BatchKeeper

    func run() async throws {
        await cancelWhenGracefulShutdown { await keeper.run() }
    }
}

/// Looks after those who wait for jobs.
struct WaiterService: Service {
    let waiters: JobWaiters

    func run() async throws {
        await cancelWhenGracefulShutdown { await waiters.run() }
    }
}

/// Runs jobs while the process serves. At its end those under way are given back at once.
struct DispatcherService: Service {
    let dispatcher: JobDispatcher
    let events: AsyncStream<PostgresListener.Event>

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await dispatcher.run() }
                group.addTask { for await _ in events { dispatcher.wake() } }
            }
        }
    }
}
