internal import Glibc

/// One operating-system thread that runs jobs in order: the place for libpq's blocking calls, which must never run on
/// the cooperative pool. An actor that names it as its executor runs on it.
///
/// The thread ends when the last reference to this object is gone and its queue is empty. The queue has no bound of its
/// own, because an executor cannot refuse; its users are bounded (the pool gives a connection to one task at a time).
public final class PostgresThread: SerialExecutor {
    private let queue: ThreadQueue

    /// Starts the thread.
    /// - Parameter name: shown by `top -H`; the kernel keeps 15 bytes.
    /// - Throws: `.connectionFailed` when the system has no thread left.
    public init(name: String = "postgres") throws(PostgresError) {
        queue = ThreadQueue(name: name)
        try queue.start()
    }

    deinit {
        queue.stop()
    }

    public func enqueue(_ job: consuming ExecutorJob) {
        queue.append(.job(UnownedJob(job), self))
    }

    /// Runs a piece of work after those already waiting, and does not wait for it.
    public func submit(_ work: @escaping @Sendable () -> Void) {
        queue.append(.work(work))
    }

    /// Runs a piece of blocking work on the thread and waits for it without blocking the caller's thread.
    public func run<T: Sendable, E: Error>(_ work: @escaping @Sendable () throws(E) -> T) async throws(E) -> T {
        let result: Result<T, E> = await withCheckedContinuation { continuation in
            submit {
                do throws(E) {
                    continuation.resume(returning: .success(try work()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    /// Runs a piece of work later.
    /// - Returns: what `cancel` takes.
    @discardableResult
    func schedule(afterMilliseconds milliseconds: Int, _ work: @escaping @Sendable () -> Void) -> UInt64 {
        queue.schedule(atNanoseconds: Deadline(afterMilliseconds: milliseconds).nanoseconds, work)
    }

    /// Forgets scheduled work. Harmless when it has run, or is just running.
    func cancel(_ token: UInt64) {
        queue.cancel(token)
    }

    public func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        UnownedSerialExecutor(ordinary: self)
    }

    public func isSameExclusiveExecutionContext(other: PostgresThread) -> Bool {
        self === other
    }

    /// Lets `assumeIsolated` succeed in submitted work, which runs outside any task.
    public func checkIsolated() {
        precondition(queue.isCurrentThread, "not on the thread of this executor")
    }

    public func isIsolatingCurrentContext() -> Bool? {
        queue.isCurrentThread
    }
}

/// The queue of one thread, kept alive by the thread itself.
// SAFETY: every stored property is read and written under `mutex`, except `thread`, which is written by the thread
// before it runs its first entry and compared with the caller's own identity only.
private final class ThreadQueue: @unchecked Sendable {
    enum Entry {
        /// The executor comes along so that it outlives the job.
        case job(UnownedJob, PostgresThread)
        case work(@Sendable () -> Void)
    }

    private struct Timer {
        let due: UInt64
        let token: UInt64
        let work: @Sendable () -> Void
    }

    private let name: String
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var entries: [Entry] = []
    /// In the order of their time.
    private var timers: [Timer] = []
    private var lastToken: UInt64 = 0
    private var isStopped = false
    private var thread: pthread_t?

    init(name: String) {
        self.name = name
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        condition.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    var isCurrentThread: Bool {
        locked { thread.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
    }

    func start() throws(PostgresError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        defer { pthread_attr_destroy(&attributes) }
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, &attributes,
            { context in
                guard let context else { return nil }
                Unmanaged<ThreadQueue>.fromOpaque(context).takeRetainedValue().loop()
                return nil
            }, context.toOpaque())
        guard code == 0 else {
            context.release()
            throw PostgresError(.connectionFailed, "no thread could be started for the connection")
        }
    }

    func stop() {
        locked { isStopped = true }
        pthread_cond_signal(condition)
    }

    func append(_ entry: Entry) {
        locked { entries.append(entry) }
        pthread_cond_signal(condition)
    }

    func schedule(atNanoseconds due: UInt64, _ work: @escaping @Sendable () -> Void) -> UInt64 {
        let token = locked {
            lastToken += 1
            // Timeouts of one length come in order, so the place is nearly always the end.
            let index = timers.lastIndex { $0.due <= due }.map { $0 + 1 } ?? 0
            timers.insert(Timer(due: due, token: lastToken, work: work), at: index)
            return lastToken
        }
        pthread_cond_signal(condition)
        return token
    }

    func cancel(_ token: UInt64) {
        // The work is released outside the lock: it may own things whose end runs code.
        let removed = locked {
            timers.firstIndex { $0.token == token }.map { timers.remove(at: $0) }
        }
        withExtendedLifetime(removed) {}
    }

    private func loop() {
        locked { thread = pthread_self() }
        takeName()
        var batch: [Entry] = []
        while takeBatch(&batch) {
            for entry in batch {
                switch entry {
                case .job(let job, let executor): job.runSynchronously(on: executor.asUnownedSerialExecutor())
                case .work(let work): work()
                }
            }
            batch.removeAll(keepingCapacity: true)
        }
    }

    /// The functions of the C library for this are not visible from Swift; the kernel has a file for it.
    private func takeName() {
        let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return }
        _ = name.withCString { write(file, $0, min(strlen($0), 15)) }
        close(file)
    }

    /// Waits for entries; false when the owner is gone and nothing is left.
    private func takeBatch(_ batch: inout [Entry]) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            let now = timers.isEmpty ? 0 : Deadline.now
            while let first = timers.first, first.due <= now {
                entries.append(.work(first.work))
                timers.removeFirst()
            }
            if !entries.isEmpty {
                swap(&batch, &entries)
                return true
            }
            if isStopped { return false }
            if let first = timers.first {
                var until = timespec(tv_sec: Int(first.due / 1_000_000_000), tv_nsec: Int(first.due % 1_000_000_000))
                pthread_cond_timedwait(condition, mutex, &until)
            } else {
                pthread_cond_wait(condition, mutex)
            }
        }
    }

    private func locked<T>(_ body: () -> T) -> T {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
}
