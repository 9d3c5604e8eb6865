import Domain
import Logging
import Synchronization
import Testing

@testable import Gateway

@Suite("the keeper of batches")
struct BatchKeeperTests {
    private static let input = #"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m"}}"# + "\n"

    private static func batch(_ state: Batch.State) -> ClaimedBatch {
        let now = SystemTime().now
        let later = Timestamp(microsecondsSince1970: now.microsecondsSince1970 + 3_600_000_000)
        return ClaimedBatch(
            id: BatchID(high: 1, low: 1), tenantID: TenantID(high: 1, low: 1), userID: nil,
            keyID: KeyID(high: 1, low: 1), endpoint: "/v1/embeddings", state: state,
            total: state == .validating ? 0 : 1, readLines: 0, place: InputPlace(), skipped: 0, collected: 0,
            createdAt: now, expiresAt: later, claim: 7)
    }

    private static func work(
        _ state: Batch.State, is actual: Batch.State, submitting result: SubmissionResult = .queued
    ) async throws -> (queue: ScriptedQueue, submitter: ScriptedSubmitter) {
        let (queue, submitter) = (ScriptedQueue(state: actual, input: Array(input.utf8)), ScriptedSubmitter(result))
        try await BatchKeeper(
            queue: queue, submitter: submitter, jobs: FakeJobRecords(), configuration: .init(), time: SystemTime(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        ).work(on: batch(state))
        return (queue, submitter)
    }

    @Test("jobs are submitted under the claim, and noted")
    func submits() async throws {
        let (queue, submitter) = try await Self.work(.inProgress, is: .inProgress)
        #expect(submitter.submissions.map(\.batchClaim) == [7])
        #expect(queue.notes == [[]])
    }

    @Test("a job that the fence left out is neither noted nor reported, and the batch is given back")
    func fenced() async throws {
        let (queue, _) = try await Self.work(.inProgress, is: .inProgress, submitting: .claimLost)
        #expect(queue.notes.isEmpty)
        #expect(queue.leases.last == 20)
    }

    @Test(
        "what was cancelled under the keeper is given back at the next step",
        arguments: [
            Batch.State.inProgress, .validating,
        ])
    func cancelledMeanwhile(state: Batch.State) async throws {
        let (queue, submitter) = try await Self.work(state, is: .cancelling)
        #expect(submitter.submissions.isEmpty)
        #expect(queue.notes.isEmpty && queue.validations == 0)
        #expect(queue.leases.last == 20)
    }

    @Test("of a cancelled batch every line that is read is offered for skipping, under the id of its job")
    func skips() async throws {
        let (queue, submitter) = try await Self.work(.cancelling, is: .cancelling)
        #expect(submitter.submissions.isEmpty)
        #expect(queue.notes.map(\.count) == [1])
    }
}

private final class ScriptedSubmitter: JobSubmitter {
    private let result: SubmissionResult
    private let state = Mutex<[JobSubmission]>([])

    init(_ result: SubmissionResult) { self.result = result }

    var submissions: [JobSubmission] { state.withLock { $0 } }

    func submit(_ submissions: [JobSubmission]) async -> [SubmissionResult] {
        state.withLock { $0 += submissions }
        return submissions.map { _ in result }
    }
}

/// One piece of input, and a state that is what the test says.
private final class ScriptedQueue: BatchQueue {
    private struct Record {
        var notes: [[Domain.RequestID]] = []
        var leases: [Int64] = []
        var validations = 0
    }

    private let actual: Batch.State
    private let input: [UInt8]
    private let record = Mutex(Record())

    init(state: Batch.State, input: [UInt8]) {
        actual = state
        self.input = input
    }

    /// The jobs of the skipped lines, note by note.
    var notes: [[Domain.RequestID]] { record.withLock { $0.notes } }
    var leases: [Int64] { record.withLock { $0.leases } }
    var validations: Int { record.withLock { $0.validations } }

    func claim(leaseMilliseconds: Int64) async throws(StoreUnavailable) -> ClaimedBatch? { nil }

    func hold(_ batch: ClaimedBatch, leaseMilliseconds: Int64) async throws(StoreUnavailable) -> Batch.State? {
        record.withLock { $0.leases.append(leaseMilliseconds) }
        return actual
    }

    func piece(_ position: Int32, of batch: BatchID) async throws(StoreUnavailable) -> [UInt8]? {
        position == 0 ? input : nil
    }

    func finishValidation(_ batch: ClaimedBatch, total: Int32, errors: String?) async throws(StoreUnavailable) -> Bool {
        record.withLock { $0.validations += 1 }
        return actual == .validating
    }

    func noteReading(
        _ batch: ClaimedBatch, lines: Int32, place: InputPlace, skipped: [SkippedLine]
    ) async throws(StoreUnavailable) -> Bool {
        record.withLock { $0.notes.append(skipped.map(\.jobID)) }
        return true
    }

    func collect(_ batch: ClaimedBatch, limit: Int) async throws(StoreUnavailable) -> Int? { 0 }
    func removeExpiredFiles(limit: Int) async throws(StoreUnavailable) -> Int { 0 }
}
