public import Domain
internal import Glibc
public import Logging
internal import Metrics
public import PostgresDriver
internal import Synchronization

/// Writes settlements durably: group commit on a thread and a connection of its own.
///
/// A batch is what arrived while the last one was committing and, where requests come together, a moment longer (``CommitPace``), so batches
/// grow with the load and with the disk's slowness and no fixed timer sets the pace. After the commit one wake-up per event loop releases all the answers of a batch.
///
/// A connection that is lost after a batch was sent leaves its fate unknown: the same rows are sent again until it is known, whoever still
/// waits or not. Callers do not wait longer than `waitMilliseconds`: the writer's thread may be waiting for the server then, so a second
/// thread keeps that promise.
public final class SettlementWriter: Settler {
    public struct Options: Sendable {
        public var queueLimit = 20_000
        public var batchLimit = 1_000
        /// The longest that a batch waits for company; 0 turns waiting off.
        public var lingerLimitMicroseconds: UInt64 = 500
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
    fileprivate let underWay = Mutex(BatchUnderWay())
    fileprivate let signal = WakeSignal()
    /// False while the connection is down.
    fileprivate let isUp = Atomic(false)
    /// When the batch under way was first sent, by the monotonic clock; 0 while none is.
    fileprivate let sentAt = Atomic<UInt64>(0)
    fileprivate let isFinished = Atomic(false)
    fileprivate let batchSizes = Recorder(label: "weir_settlement_batch_rows")
    fileprivate let commitTimes = Timer(label: "weir_settlement_commit_seconds")
    fileprivate let resends = Counter(label: "weir_settlement_resends_total")
    /// Makes receipts of what is committed; `nil` where nobody signs.
    fileprivate let receipts: (any ReceiptIssuer)?
    fileprivate let rejections = Counter(label: "weir_settlement_rejected_total")
    #if WEIR_FAULTS
        fileprivate let faults: any FaultPlan
    #endif

    /// - Parameter configuration: signs in to the database; the session takes the role `weir_writer`.
    public init(
        configuration: PostgresConfiguration, gatewayID: GatewayID, options: Options, time: any TimeSource,
        logger: Logger, receipts: (any ReceiptIssuer)? = nil,
        faults: SettlementFaults = SettlementFaults()
    ) {
        self.receipts = receipts
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
        guard queue.withLock({ $0.hasRoom }) else { return false }
        let sent = sentAt.load(ordering: .relaxed)
        // A batch that is out for so long means a database that has stopped answering: refuse before the worker is called.
        return sent == 0 || time.monotonicNanoseconds &- sent < UInt64(options.waitMilliseconds) * 500_000
    }

    public func submit(
        _ settlement: Settlement, on lane: any CompletionLane,
        completion: @escaping @Sendable (SettlementResult) -> Void
    ) {
        let entry = PendingSettlement(
            settlement: settlement, lane: lane, completion: completion, queuedAtNanoseconds: time.monotonicNanoseconds)
        switch queue.withLock({ $0.add(entry) }) {
        case .queuedAndWake: signal.signal()
        case .queued: break
        case .overloaded: lane.run { completion(.overloaded) }
        case .closed: lane.run { completion(.unavailable) }
        }
        pass(.settlementQueued)
    }

    /// Starts the writer's threads. Call once.
    public func start() throws(PostgresError) {
        let watch = try PostgresThread(name: "weir-settle-due")
        let thread = try PostgresThread(name: "weir-settle")
        watch.submit { [self] in
            _ = watch
            refuseOverdueUntilFinished()
        }
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

    /// Tells whoever has waited long enough, whatever the writer's thread is waiting for.
    private func refuseOverdueUntilFinished() {
        let wait = UInt64(options.waitMilliseconds) * 1_000_000
        let pauseMilliseconds = UInt32(clamping: min(max(options.waitMilliseconds / 20, 1), 100))
        while !isFinished.load(ordering: .acquiring) {
            usleep(pauseMilliseconds * 1_000)
            let now = time.monotonicNanoseconds
            guard now > wait else { continue }
            let (late, outcome) = underWay.withLock { ($0.takeOlder(than: now - wait), $0.outcomeOfWaiting) }
            complete(late) { _ in outcome }
            complete(queue.withLock { $0.takeOlder(than: now - wait) }) { _ in .unavailable }
        }
    }

    /// Tells the callers, with one wake-up for each event loop.
    fileprivate func complete(_ entries: [PendingSettlement], _ result: (PendingSettlement) -> SettlementResult) {
        guard !entries.isEmpty else { return }
        var groups:
            [(
                lane: any CompletionLane,
                work: [(completion: @Sendable (SettlementResult) -> Void, result: SettlementResult)]
            )] = []
        for entry in entries {
            let item = (completion: entry.completion, result: result(entry))
            if let index = groups.firstIndex(where: { $0.lane === entry.lane }) {
                groups[index].work.append(item)
            } else {
                groups.append((entry.lane, [item]))
            }
        }
        pass(.commitKnown)
        for group in groups {
            let work = group.work
            group.lane.run { for item in work { item.completion(item.result) } }
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
    private var pace: CommitPace
    private var backoffMilliseconds: Int32 = 50

    init(writer: SettlementWriter) {
        self.writer = writer
        session = PostgresSession(configuration: writer.configuration)
        pace = CommitPace(limitMicroseconds: writer.options.lingerLimitMicroseconds)
    }

    func run() {
        var loop = self
        while true {
            guard loop.connect() else {
                if loop.mustEnd { break }
                continue
            }
            if loop.pace.lingerMicroseconds > 0, writer.queue.withLock({ !$0.pending.isEmpty && !$0.isClosed }) {
                usleep(UInt32(clamping: loop.pace.lingerMicroseconds))
            }
            let batch = writer.queue.withLock { $0.take(writer.options.batchLimit) }
            if batch.isEmpty {
                if writer.queue.withLock({ $0.isClosed }) { break }
                // Wakes by itself now and then to notice a connection that has died while nothing was to be written.
                writer.signal.wait(milliseconds: 500)
                if (try? loop.session.checkAlive()) == nil { loop.lost() }
                continue
            }
            writer.underWay.withLock { $0.begin(batch) }
            let start = writer.time.monotonicNanoseconds
            writer.sentAt.store(start, ordering: .relaxed)
            loop.write(batch[...])
            writer.sentAt.store(0, ordering: .relaxed)
            loop.pace.committed(
                rows: batch.count, microseconds: (writer.time.monotonicNanoseconds &- start) / 1_000)
        }
        loop.session.close()
        while true {
            let rest = writer.queue.withLock { $0.take(.max) }
            if rest.isEmpty { break }
            writer.complete(rest) { _ in .unavailable }
        }
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
            writer.signal.wait(milliseconds: Int32.random(in: backoffMilliseconds / 2...backoffMilliseconds))
            backoffMilliseconds = min(backoffMilliseconds * 2, 1_000)
            return false
        }
    }

    private func lost() {
        session.close()
        writer.isUp.store(false, ordering: .relaxed)
    }

    /// Writes a batch, or a part of one, until its fate is known. `isUnknown` says that an earlier sending may have been committed.
    private mutating func write(_ part: ArraySlice<PendingSettlement>, isUnknown wasUnknown: Bool = false) {
        var batch = part
        var isUnknown = wasUnknown
        var attempt = 0
        while true {
            attempt += 1
            // Whoever was told that nothing was written must not be written after all.
            if !isUnknown { batch = writer.underWay.withLock { $0.startSending(batch) } }
            guard !batch.isEmpty else { return }
            do throws(PostgresError) {
                let refused = try send(batch, isUnknown: isUnknown)
                writer.pass(.batchCommitted)
                issueReceipts(batch, refused)
                tell(batch) { refused[$0.settlement.requestID] ?? .committed }
                return
            } catch {
                // An answer that cannot be read comes after the commit.
                isUnknown = isUnknown || error.outcomeUnknown || error.code == .decoding
                #if WEIR_FAULTS
                    if error.outcomeUnknown, writer.faults.mutant == .ignoreCommitLoss {
                        tell(batch) { _ in .committed }
                        return lost()
                    }
                #endif
                writer.underWay.withLock { $0.mayBeWritten = isUnknown }
                guard session.isConnected, error.blamesRows else {
                    guard retry(batch, after: error, isUnknown: isUnknown, attempt: attempt) else { return }
                    continue
                }
                bisect(batch, isUnknown: isUnknown, error)
                return
            }
        }
    }

    /// On this thread and not on those of the requests: a signature takes longer than the rest of an answer. Who wants none does not wait for
    /// it. What was sent twice is in the ledger once, as it was sent; so it has its receipt as well.
    private func issueReceipts(
        _ batch: ArraySlice<PendingSettlement>, _ refused: [RequestID: SettlementResult]
    ) {
        guard let receipts = writer.receipts, batch.contains(where: { $0.settlement.receipt != nil }) else { return }
        tell(ArraySlice(batch.filter { $0.settlement.receipt == nil })) {
            refused[$0.settlement.requestID] ?? .committed
        }
        receipts.issue(
            batch.compactMap { entry in
                entry.settlement.receipt != nil && refused[entry.settlement.requestID] == nil ? entry.settlement : nil
            })
    }

    /// - Returns: the rows that were not written, and why.
    private func send(
        _ batch: ArraySlice<PendingSettlement>, isUnknown: Bool
    ) throws(PostgresError) -> [RequestID: SettlementResult] {
        let start = writer.time.monotonicNanoseconds
        let settlements = batch.map(\.settlement)[...]
        writer.pass(.batchSent)
        let refused: [RequestID: SettlementResult]
        if settlements.contains(where: { $0.job != nil }) {
            let statement = SettleJobBatch(gatewayID: writer.gatewayID, batch: settlements)
            refused = Dictionary(
                try send(statement, isUnknown: isUnknown).map { ($0.requestID, $0.result) }
            ) { first, _ in first }
        } else if settlements.contains(where: { $0.answer != nil }) {
            let statement = SettleClaimedBatch(gatewayID: writer.gatewayID, batch: settlements)
            refused = Dictionary(
                try send(statement, isUnknown: isUnknown).map {
                    ($0.requestID, $0.isClaimLost ? SettlementResult.claimLost : .leaseLost)
                }
            ) { first, _ in first }
        } else {
            let rows = try sendUnclaimed(settlements, isUnknown: isUnknown)
            refused = rows.isEmpty ? [:] : Dictionary(rows.map { ($0, .leaseLost) }) { first, _ in first }
        }
        writer.batchSizes.record(batch.count)
        writer.commitTimes.recordNanoseconds(Int64(clamping: writer.time.monotonicNanoseconds &- start))
        return refused
    }

    private func sendUnclaimed(
        _ settlements: ArraySlice<Settlement>, isUnknown: Bool
    ) throws(PostgresError) -> [RequestID] {
        let statement = SettleBatch(gatewayID: writer.gatewayID, batch: settlements)
        #if WEIR_FAULTS
            if writer.faults.mutant == .noOnConflict {
                return try session.pipeline(
                    HoldGatewayLock(gatewayID: writer.gatewayID), SettleBatchOnce(inner: statement)
                ).1
            }
        #endif
        return try send(statement, isUnknown: isUnknown)
    }

    /// One statement in one transaction, under the gateway's lock.
    private func send<S: PostgresStatement>(_ statement: S, isUnknown: Bool) throws(PostgresError) -> [S.Row] {
        isUnknown
            ? try session.pipeline(HoldGatewayLockAlone(gatewayID: writer.gatewayID), statement).1
            : try session.pipeline(HoldGatewayLock(gatewayID: writer.gatewayID), statement).1
    }

    /// After a failure that is not the rows' own: reconnects or waits.
    /// - Returns: false when there is nobody left to write for and nothing of the batch can be in the database.
    private mutating func retry(
        _ batch: ArraySlice<PendingSettlement>, after error: PostgresError, isUnknown: Bool, attempt: Int
    ) -> Bool {
        writer.resends.increment()
        writer.logger.warning(
            "a settlement batch is sent again", metadata: ["cause": "\(error)", "unknown": "\(isUnknown)"])
        if !session.isConnected { lost() }
        while true {
            // Rows that were certainly not written need not be, once nobody waits for them: nobody was told and nothing was charged.
            if !isUnknown || mustEnd, !writer.underWay.withLock({ $0.isWaited(for: batch) }) { return false }
            if session.isConnected {
                let ceiling = Int32(20) << Int32(min(attempt, 5))
                writer.signal.wait(milliseconds: Int32.random(in: 5...ceiling))
                return true
            }
            if connect() { return true }
        }
    }

    /// One row that the database refuses takes its neighbours with it: halves are written apart until it stands alone.
    private mutating func bisect(_ batch: ArraySlice<PendingSettlement>, isUnknown: Bool, _ error: PostgresError) {
        guard batch.count > 1 else {
            writer.rejections.increment()
            writer.logger.error(
                "the database refused a settlement",
                metadata: [
                    "request_id": "\(batch.first?.settlement.requestID.publicText ?? "")", "cause": "\(error)",
                ])
            tell(batch) { _ in .rejected }
            return
        }
        let middle = batch.startIndex + batch.count / 2
        write(batch[..<middle], isUnknown: isUnknown)
        write(batch[middle...], isUnknown: isUnknown)
    }

    /// Tells those of a batch who still wait.
    private func tell(_ batch: ArraySlice<PendingSettlement>, _ result: (PendingSettlement) -> SettlementResult) {
        writer.complete(writer.underWay.withLock { $0.take(batch) }, result)
    }
}

extension PostgresError {
    /// Whether a row of the batch is to blame, so that the others can be written without it: a value that cannot be sent, and the SQLSTATE
    /// classes of data (22), integrity (23), limits of one row (54), and what a trigger raises (P0). Everything else, a time limit or a
    /// missing right for example, befalls every row alike and may pass.
    var blamesRows: Bool {
        guard let sqlState else { return code == .encoding }
        return ["22", "23", "54", "P0"].contains { sqlState.hasPrefix($0) }
    }
}
