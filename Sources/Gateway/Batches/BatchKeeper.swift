internal import Crypto
public import Domain
internal import Foundation
internal import HTTPListener
public import Logging
internal import Metrics
internal import NIOCore

/// Works on batches: checks their lines, makes jobs of them, and collects what became of the jobs. Any number of processes may do so; a batch is
/// one's at a time, and what another does with a claim that it has lost is refused.
///
/// A batch never has more than a window of jobs in the queue, and no more of a file is in memory than a piece and a line. A process that dies in
/// the middle leaves the place up to which was read and collected: lines behind it are read again, and are the same jobs.
public struct BatchKeeper: Sendable {
    public struct Configuration: Sendable {
        /// Jobs of one batch in the queue at once.
        public var window: Int32 = 2_000
        public var lineLimit = 50_000
        /// Bytes of a line.
        public var lineBytes = 1_048_576
        /// Wrong lines that are told of.
        public var errorLimit = 100
        public var leaseMilliseconds: Int64 = 15_000
        /// Between two looks at a batch that waits for its jobs.
        public var pauseMilliseconds: Int64 = 500
        public init() {}
    }

    private let queue: any BatchQueue
    private let submitter: any JobSubmitter
    private let jobs: any JobRecords
    private let configuration: Configuration
    private let time: any TimeSource
    private let logger: Logger

    public init(
        queue: any BatchQueue, submitter: any JobSubmitter, jobs: any JobRecords, configuration: Configuration,
        time: any TimeSource, logger: Logger
    ) {
        self.queue = queue
        self.submitter = submitter
        self.jobs = jobs
        self.configuration = configuration
        self.time = time
        self.logger = logger
    }

    /// Works until the task is cancelled.
    public func run() async {
        while !Task.isCancelled {
            do throws(StoreUnavailable) {
                if let batch = try await queue.claim(leaseMilliseconds: configuration.leaseMilliseconds) {
                    try await work(on: batch)
                    continue
                }
            } catch {
                Counter(label: "weir_job_failures_total", dimensions: [("job", "batches")]).increment()
                logger.warning("a batch could not be worked on", metadata: ["cause": "\(error.cause)"])
            }
            try? await Task.sleep(nanoseconds: UInt64(configuration.pauseMilliseconds) * 1_000_000)
        }
    }

    func work(on batch: ClaimedBatch) async throws(StoreUnavailable) {
        if batch.state == .validating { return try await validate(batch) }
        let isEnding =
            batch.state == .cancelling || time.now.microsecondsSince1970 >= batch.expiresAt.microsecondsSince1970
        if isEnding {
            while try await jobs.cancel(batch: batch.id, tenantID: batch.tenantID, limit: 500) == 500 {
                guard try await queue.hold(batch, leaseMilliseconds: configuration.leaseMilliseconds) != nil else {
                    return
                }
            }
        }
        var hasMoved = false
        if batch.readLines < batch.total {
            guard let lines = isEnding ? try await skip(batch) : try await submit(batch) else {
                return try await giveBack(batch)
            }
            hasMoved = lines > 0
        }
        for _ in 0..<10 {
            guard let collected = try await queue.collect(batch, limit: 500) else { return }
            if collected > 0 { hasMoved = true }
            guard collected == 500 else { break }
        }
        _ = try await queue.hold(batch, leaseMilliseconds: hasMoved ? 20 : configuration.pauseMilliseconds)
    }

    /// Where a step finds another state or another holder: a batch that is still this one's was cancelled, and is ended under a new claim.
    private func giveBack(_ batch: ClaimedBatch) async throws(StoreUnavailable) {
        _ = try await queue.hold(batch, leaseMilliseconds: 20)
    }

    // MARK: - Validation

    private func validate(_ batch: ClaimedBatch) async throws(StoreUnavailable) {
        var cutter = BatchLineCutter(at: InputPlace(), lineLimit: configuration.lineBytes)
        var check = Check(endpoint: batch.endpoint, configuration: configuration)
        do throws(BatchLineError) {
            while let piece = try await next(of: batch, at: cutter.position) {
                _ = try cutter.cut(piece) { cut throws(BatchLineError) in try check.take(cut.text) }
                // A large file takes longer than a claim lasts.
                guard await isHeld(batch) else { throw Self.lostClaim }
            }
            if let last = cutter.last() { _ = try check.take(last.text) }
            if check.total == 0, check.errors.isEmpty {
                throw BatchLineError(code: "empty_file", message: "The file has no requests.", param: nil, line: nil)
            }
        } catch {
            if error == Self.lostClaim { return try await giveBack(batch) }
            if error.code == Self.unavailable { throw StoreUnavailable(cause: error.message) }
            check.errors.append(error)
        }
        var text: String?
        if !check.errors.isEmpty {
            text = (try? JSONEncoder().encode(check.errors)).map { String(decoding: $0, as: UTF8.self) } ?? "[]"
        }
        guard try await queue.finishValidation(batch, total: check.total, errors: text) else {
            return try await giveBack(batch)
        }
    }

    /// What is found wrong, line by line.
    private struct Check {
        let endpoint: String
        let configuration: Configuration
        var total: Int32 = 0
        var line: Int32 = 0
        var errors: [BatchLineError] = []
        /// 16 bytes for each, whatever its length.
        private var customIDs: Set<UInt128> = []

        init(endpoint: String, configuration: Configuration) {
            self.endpoint = endpoint
            self.configuration = configuration
        }

        mutating func take(_ text: ByteBuffer) throws(BatchLineError) -> Bool {
            line += 1
            guard !text.isBlank else { return true }
            total += 1
            guard Int(total) <= configuration.lineLimit else {
                throw BatchLineError(
                    code: "too_many_tasks", message: "The file has more than \(configuration.lineLimit) requests.",
                    param: nil,
                    line: line)
            }
            do throws(BatchLineError) {
                let request = try BatchLine(text, number: line, endpoint: endpoint)
                let digest = SHA256.hash(data: Array(request.customID.utf8)).prefix(16).reduce(UInt128(0)) {
                    $0 << 8 | UInt128($1)
                }
                guard customIDs.insert(digest).inserted else {
                    throw BatchLineError(
                        code: "duplicate_custom_id",
                        message: "The custom_id for this request is a duplicate of another request's.",
                        param: "custom_id", line: line)
                }
            } catch {
                if errors.count < configuration.errorLimit { errors.append(error) }
            }
            return true
        }
    }

    // MARK: - Reading

    /// Makes jobs of the next lines, as many as there is room for.
    /// - Returns: how many lines were read; `nil` where the claim is lost.
    private func submit(_ batch: ClaimedBatch) async throws(StoreUnavailable) -> Int32? {
        let underWay = batch.readLines - batch.skipped - batch.collected
        let room = min(configuration.window - underWay, 500)
        guard room > 0 else { return 0 }
        let now = time.now
        let lifetime = max(1_000, (batch.expiresAt.microsecondsSince1970 - now.microsecondsSince1970) / 1_000)
        var submissions: [JobSubmission] = []
        let operation = BatchesEndpoint.endpoints[batch.endpoint]?.operation ?? ""
        guard
            let read = try await read(
                batch, upTo: room,
                { line, number in
                    submissions.append(
                        JobSubmission(
                            jobID: batch.jobID(line: number), tenantID: batch.tenantID, userID: batch.userID,
                            keyID: batch.keyID,
                            operation: operation, model: line.model, payload: Array(line.body.readableBytesView),
                            estimatedTokens: Int64(line.body.readableBytes), createdAt: now,
                            lifetimeMilliseconds: lifetime,
                            batchID: batch.id, batchClaim: batch.claim, customID: line.customID))
                })
        else { return nil }
        var refused: [SkippedLine] = []
        for (result, submission) in zip(await submitter.submit(submissions), submissions) {
            switch result {
            case .queued: break
            case .rejected:
                refused.append(
                    Self.skipped(
                        submission.jobID, submission.customID ?? "", code: "invalid_request",
                        message: "The request cannot be kept."))
            case .claimLost: return nil
            // Those that were queued are the same jobs when they are submitted again.
            case .unavailable, .overloaded: throw StoreUnavailable(cause: "jobs of a batch could not be queued")
            }
        }
        let isNoted = try await queue.noteReading(
            batch, lines: batch.readLines + read.count, place: read.place, skipped: refused)
        return isNoted ? read.count : nil
    }

    /// Writes the next lines down as not run, but for those that a former keeper submitted.
    private func skip(_ batch: ClaimedBatch) async throws(StoreUnavailable) -> Int32? {
        let isCancelled = batch.state == .cancelling
        var lines: [SkippedLine] = []
        guard
            let read = try await read(
                batch, upTo: 2_000,
                { line, number in
                    lines.append(
                        Self.skipped(
                            batch.jobID(line: number), line.customID,
                            code: isCancelled ? "batch_cancelled" : "batch_expired",
                            message:
                                "The batch was \(isCancelled ? "cancelled" : "expired") before this request was run."))
                })
        else { return nil }
        let isNoted = try await queue.noteReading(
            batch, lines: batch.readLines + read.count, place: read.place, skipped: lines)
        return isNoted ? read.count : nil
    }

    /// Reads lines from where the batch stands.
    /// - Returns: how many, and where the next begins; `nil` where the claim is lost.
    private func read(
        _ batch: ClaimedBatch, upTo limit: Int32, _ body: (BatchLine, Int32) -> Void
    ) async throws(StoreUnavailable) -> (count: Int32, place: InputPlace)? {
        var cutter = BatchLineCutter(at: batch.place, lineLimit: configuration.lineBytes)
        var count: Int32 = 0
        var bytes = 0
        var place = batch.place
        func take(_ cut: BatchLineCutter.Cut) throws(BatchLineError) -> Bool {
            place = cut.next
            guard !cut.text.isBlank else { return true }
            let line = try BatchLine(cut.text, number: batch.readLines + count, endpoint: batch.endpoint)
            body(line, batch.readLines + count)
            count += 1
            bytes += cut.text.readableBytes
            // Of long lines fewer at once: they stand in memory until they are queued.
            return count < limit && batch.readLines + count < batch.total && bytes < 4_194_304
        }
        do throws(BatchLineError) {
            var isFull = false
            while !isFull, let piece = try await next(of: batch, at: cutter.position) {
                isFull = try !cutter.cut(piece, take)
            }
            if !isFull, let last = cutter.last() { _ = try take(last) }
        } catch {
            // The input was checked, and nobody changes it.
            throw StoreUnavailable(cause: "the input of a batch: \(error.message)")
        }
        return await isHeld(batch) ? (count, place) : nil
    }

    private static let unavailable = "unavailable"
    private static let lostClaim = BatchLineError(
        code: "lost_claim", message: "The batch is another's, or was cancelled.", param: nil, line: nil)

    private func next(of batch: ClaimedBatch, at position: Int32) async throws(BatchLineError) -> [UInt8]? {
        do throws(StoreUnavailable) {
            return try await queue.piece(position, of: batch.id)
        } catch {
            throw BatchLineError(code: Self.unavailable, message: error.cause, param: nil, line: nil)
        }
    }

    /// Whether the batch is still this one's, and nobody has cancelled it since it was claimed.
    private func isHeld(_ batch: ClaimedBatch) async -> Bool {
        do throws(StoreUnavailable) {
            return try await queue.hold(batch, leaseMilliseconds: configuration.leaseMilliseconds) == batch.state
        } catch {
            return false
        }
    }

    private static func skipped(_ jobID: Domain.RequestID, _ customID: String, code: String, message: String)
        -> SkippedLine
    {
        struct Line: Encodable {
            struct Failure: Encodable {
                let code: String
                let message: String
            }

            let id: String
            let customID: String
            @Present var response: String?
            let error: Failure

            enum CodingKeys: String, CodingKey {
                case id, response, error
                case customID = "custom_id"
            }
        }
        let line = Line(
            id: "batch_req_\(jobID)", customID: customID, response: nil, error: .init(code: code, message: message))
        let text = (try? JSONEncoder().encode(line)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
        return SkippedLine(jobID: jobID, text: text + "\n")
    }
}

extension ByteBuffer {
    /// Whether there is nothing in a line but white space.
    fileprivate var isBlank: Bool {
        readableBytesView.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }
    }
}
