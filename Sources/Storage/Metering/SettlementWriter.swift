public import Domain
public import Logging
internal import Metrics
public import PostgresDriver
internal import Synchronization

/// Writes settlements durably: group commit on a thread and a connection of its own.
///
/// A batch is what arrived while the last one was committing, so batches grow with the load and with the disk's slowness and no timer sets
/// the pace. After the commit one wake-up per event loop releases all the answers of a batch.
///
/// A connection that is lost after a batch was sent leaves its fate unknown: the same rows are sent again until it is known, whoever still
/// waits or not. Callers do not wait longer than `waitMilliseconds`.
public final class SettlementWriter: Settler {
    public struct Options: Sendable {
        public var queueLimit = 20_000
        public var batchLimit = 1_000
        /// How long a caller waits for the database before it is told that usage cannot be recorded.
        public var waitMilliseconds: Int64 = 3_000
        public init() {}
    }

    fileprivate let configuration: PostgresConfiguration
    fileprivate let gatewayID: GatewayID
    fileprivate let options: Options
    fileprivate let time: any TimeSource
    fileprivate let logger: Logger
    fileprivate let queue: Mutex<SettlementQueue>
    fileprivate let signal = WakeSignal()
    /// False while the connection is down.
    fileprivate let isUp = Atomic(false)
    /// When the batch under way was sent, by the monotonic clock; 0 while none is.
    fileprivate let sentAt = Atomic<UInt64>(0)
    fileprivate let isFinished = Atomic(false)
    fileprivate let batchSizes = Recorder(label: "weir_settlement_batch_rows")
    fileprivate let commitTimes = Timer(label: "weir_settlement_commit_seconds")
    fileprivate let resends = Counter(label: "weir_settlement_resends_total")
    fileprivate let rejections = Counter(label: "weir_settlement_rejected_total")
    #if WEIR_FAULTS
    fileprivate let faults: any FaultPlan
    #endif

    /// - Parameter configuration: signs in to the database; the session takes the role `weir_writer`.
    public init(
        configuration: PostgresConfiguration, gatewayID: GatewayID, options: Options, time: any TimeSource, logger: Logger,
        faults: SettlementFaults = SettlementFaults()
    ) {
        self.configuration = configuration
        self.gatewayID = gatewayID
        self.options = options
        self.time = time
        self.logger = logger
        queue = Mutex(SettlementQueue(limit: options.queueLimit))
        #if WEIR_FAULTS
        self.faults = faults.plan
        #endif
    }

    public var isAccepting: Bool {
        guard isUp.load(ordering: .relaxed) else { return false }
        let sent = sentAt.load(ordering: .relaxed)
        // A batch that is out for so long means a database that has stopped answering: refuse before the worker is called.
        return sent == 0 || time.monotonicNanoseconds &- sent < UInt64(options.waitMilliseconds) * 500_000
    }

    public func submit(
        _ settlement: Settlement, on lane: any CompletionLane, completion: @escaping @Sendable (SettlementResult) -> Void
    ) {
        let entry = PendingSettlement(
            settlement: settlement, lane: lane, completion: completion, queuedAtNanoseconds: time.monotonicNanoseconds)
        switch queue.withLock({ $0.add(entry) }) {
        case .queuedAndWake: signal.signal()
        case .queued: break
        case .overloaded: completion(.overloaded)
        case .closed: completion(.unavailable)
        }
        pass(.settlementQueued)
    }

    /// Starts the writer's thread. Call once.
    public func start() throws(PostgresError) {
        let thread = try PostgresThread(name: "weir-settle")
        thread.submit { [self] in
            // The loop owns the thread until it has ended; `thread` is kept alive by this closure.
            _ = thread
            SettlementLoop(writer: self).run()
        }
    }

    /// Stops taking settlements, writes what is queued, and returns when all is known or `graceMilliseconds` have passed.
    public func shutdown(graceMilliseconds: Int64) async {
        queue.withLock { $0.close() }
        signal.signal()
        let deadline = time.monotonicNanoseconds + UInt64(graceMilliseconds) * 1_000_000
        while !isFinished.load(ordering: .acquiring), time.monotonicNanoseconds < deadline {
            try? await Task.sleep(nanoseconds: 5_000_000)
        }
    }

    @inline(__always)
    fileprivate func pass(_ point: SettlementPoint) {
        #if WEIR_FAULTS
        if let point = FaultPoint(rawValue: point.rawValue) { faults.pass(point) }
        #endif
    }
}

/// The instants of a settlement at which a test may end the process.
private enum SettlementPoint: String {
    case settlementQueued = "settlement_queued"
    case batchSent = "batch_sent"
    case batchCommitted = "batch_committed"
    case commitKnown = "commit_known"
}

/// Seeded faults for the writer; empty in a release build.
public struct SettlementFaults: Sendable {
    #if WEIR_FAULTS
    public var plan: any FaultPlan = NoFaults()
    #endif
    public init() {}
}

/// The writer's thread: one session, one batch at a time.
private struct SettlementLoop {
    private let writer: SettlementWriter
    private let session: PostgresSession
    private var backoffMilliseconds: Int32 = 50

    init(writer: SettlementWriter) {
        self.writer = writer
        session = PostgresSession(configuration: writer.configuration)
    }

    func run() {
        var loop = self
        while true {
            guard loop.connect() else {
                if loop.mustEnd { break }
                continue
            }
            let batch = writer.queue.withLock { $0.take(writer.options.batchLimit) }
            if batch.isEmpty {
                if writer.queue.withLock({ $0.isClosed }) { break }
                // Wakes by itself now and then to notice a connection that has died while nothing was to be written.
                writer.signal.wait(milliseconds: 500)
                if (try? loop.session.checkAlive()) == nil { loop.lost() }
                continue
            }
            loop.write(batch[...], waiting: batch[...])
        }
        loop.session.close()
        for entry in writer.queue.withLock({ $0.take(.max) }) { entry.lane.run { entry.completion(.unavailable) } }
        writer.isFinished.store(true, ordering: .releasing)
    }

    /// Stopping while the database is away: what was never sent is refused, nothing is lost by that.
    private var mustEnd: Bool { writer.queue.withLock { $0.isClosed } }

    /// - Returns: false after a failed attempt and its pause.
    private mutating func connect() -> Bool {
        guard !session.isConnected else { return true }
        do throws(PostgresError) {
            try session.connect()
            backoffMilliseconds = 50
            writer.isUp.store(true, ordering: .relaxed)
            writer.logger.info("settlement is connected")
            return true
        } catch {
            writer.isUp.store(false, ordering: .relaxed)
            writer.logger.warning("settlement cannot reach the database", metadata: ["cause": "\(error)"])
            refuseOverdue()
            writer.signal.wait(milliseconds: Int32.random(in: backoffMilliseconds / 2...backoffMilliseconds))
            backoffMilliseconds = min(backoffMilliseconds * 2, 1_000)
            return false
        }
    }

    private func lost() {
        session.close()
        writer.isUp.store(false, ordering: .relaxed)
    }

    /// Whoever has waited long enough and was never sent is told so.
    private func refuseOverdue() {
        let wait = UInt64(writer.options.waitMilliseconds) * 1_000_000
        let now = writer.time.monotonicNanoseconds
        guard now > wait else { return }
        complete(writer.queue.withLock { $0.takeOlder(than: now - wait) }[...]) { _ in .unavailable }
    }

    /// Writes a batch until its fate is known. `waiting` are those of its entries whose callers have not been told yet.
    private mutating func write(_ batch: ArraySlice<PendingSettlement>, waiting: ArraySlice<PendingSettlement>) {
        var batch = batch
        var waiting = waiting
        var isUnknown = false
        while true {
            do throws(PostgresError) {
                let refused = try send(batch)
                writer.pass(.batchCommitted)
                complete(waiting) { refused.contains($0.settlement.requestID) ? .leaseLost : .committed }
                return
            } catch {
                isUnknown = isUnknown || error.outcomeUnknown
                #if WEIR_FAULTS
                if error.outcomeUnknown, writer.faults.mutant == .ignoreCommitLoss {
                    complete(waiting) { _ in .committed }
                    return lost()
                }
                #endif
                guard session.isConnected, !error.isTransient else {
                    guard retry(&batch, &waiting, after: error, isUnknown: isUnknown) else { return }
                    continue
                }
                bisect(batch, waiting: waiting, error)
                return
            }
        }
    }

    private func send(_ batch: ArraySlice<PendingSettlement>) throws(PostgresError) -> Set<RequestID> {
        let start = writer.time.monotonicNanoseconds
        writer.sentAt.store(start, ordering: .relaxed)
        defer { writer.sentAt.store(0, ordering: .relaxed) }
        let statement = SettleBatch(gatewayID: writer.gatewayID, batch: batch.map(\.settlement)[...])
        writer.pass(.batchSent)
        #if WEIR_FAULTS
        if writer.faults.mutant == .noOnConflict {
            return Set(try session.pipeline(HoldGatewayLock(gatewayID: writer.gatewayID), SettleBatchOnce(inner: statement)).1)
        }
        #endif
        let (_, refused) = try session.pipeline(HoldGatewayLock(gatewayID: writer.gatewayID), statement)
        writer.batchSizes.record(batch.count)
        writer.commitTimes.recordNanoseconds(Int64(clamping: writer.time.monotonicNanoseconds &- start))
        return refused.isEmpty ? [] : Set(refused)
    }

    /// After a failure that may pass: reconnects or waits, and lets go of callers who have waited long enough.
    /// - Returns: false when there is nobody left to write for and nothing of the batch can be in the database.
    private mutating func retry(
        _ batch: inout ArraySlice<PendingSettlement>, _ waiting: inout ArraySlice<PendingSettlement>, after error: PostgresError,
        isUnknown: Bool
    ) -> Bool {
        writer.resends.increment()
        writer.logger.warning("a settlement batch is sent again", metadata: ["cause": "\(error)", "unknown": "\(isUnknown)"])
        if !session.isConnected { lost() }
        while true {
            let wait = UInt64(writer.options.waitMilliseconds) * 1_000_000
            let now = writer.time.monotonicNanoseconds
            let late = waiting.filter { now - $0.queuedAtNanoseconds >= wait }
            if !late.isEmpty {
                waiting = waiting.filter { now - $0.queuedAtNanoseconds < wait }[...]
                // What was certainly not written must not be written later: its caller has been told that it was not.
                if !isUnknown { batch = waiting }
                complete(late[...]) { _ in isUnknown ? .unknown : .unavailable }
            }
            // Rows that were certainly not written need not be, once nobody waits for them: nobody was told and nothing was charged.
            if waiting.isEmpty, !isUnknown { return false }
            if waiting.isEmpty, mustEnd { return false }
            if session.isConnected {
                refuseOverdue()
                writer.signal.wait(milliseconds: Int32.random(in: 5...25))
                return true
            }
            if connect() { return true }
        }
    }

    /// One row that the database refuses takes its neighbours with it: halves are written apart until it stands alone.
    private mutating func bisect(
        _ batch: ArraySlice<PendingSettlement>, waiting: ArraySlice<PendingSettlement>, _ error: PostgresError
    ) {
        guard batch.count > 1 else {
            writer.rejections.increment()
            writer.logger.error(
                "the database refused a settlement",
                metadata: [
                    "request_id": "\(batch.first?.settlement.requestID.publicText ?? "")", "cause": "\(error)",
                ])
            complete(waiting) { _ in .rejected }
            return
        }
        let middle = batch.startIndex + batch.count / 2
        for half in [batch[..<middle], batch[middle...]] {
            let ids = Set(half.map(\.settlement.requestID))
            let stillWaiting = waiting.filter { ids.contains($0.settlement.requestID) }
            write(half, waiting: stillWaiting[...])
        }
    }

    /// Tells the callers, with one wake-up for each event loop.
    private func complete(
        _ entries: ArraySlice<PendingSettlement>, _ result: (PendingSettlement) -> SettlementResult
    ) {
        guard !entries.isEmpty else { return }
        var groups: [(lane: any CompletionLane, work: [(completion: @Sendable (SettlementResult) -> Void, result: SettlementResult)])] = []
        for entry in entries {
            let item = (completion: entry.completion, result: result(entry))
            if let index = groups.firstIndex(where: { $0.lane === entry.lane }) {
                groups[index].work.append(item)
            } else {
                groups.append((entry.lane, [item]))
            }
        }
        writer.pass(.commitKnown)
        for group in groups {
            let work = group.work
            group.lane.run { for item in work { item.completion(item.result) } }
        }
    }
}
