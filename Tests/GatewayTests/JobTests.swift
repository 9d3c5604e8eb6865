import Domain
import HTTPListener
import Logging
import NIOCore
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite("jobs at the gateway")
struct JobTests {
    private static let now = Timestamp(rfc3339: "2026-03-14T09:00:00Z") ?? Timestamp(microsecondsSince1970: 0)

    @Test("what a head wishes for a job", arguments: [("0", 0), ("5", 5), ("9", 9)])
    func priority(text: String, number: Int16) throws {
        #expect(try JobFields(priorities: [text]).schedule(at: Self.now).priority == number)
    }

    @Test("a priority that is none is refused", arguments: ["-1", "10", "", "a", "5.0", "05", " 5"])
    func badPriority(text: String) {
        #expect(throws: Refusal.self) { try JobFields(priorities: [text]).schedule(at: Self.now) }
    }

    @Test("two priorities, or two instants, are refused")
    func twice() {
        #expect(throws: Refusal.self) { try JobFields(priorities: ["1", "1"]).schedule(at: Self.now) }
        let instant = "2026-03-15T00:00:00Z"
        #expect(throws: Refusal.self) { try JobFields(instants: [instant, instant]).schedule(at: Self.now) }
    }

    @Test("an instant may be a week ahead, and not more")
    func instants() throws {
        let last = "2026-03-21T09:00:00Z"
        #expect(try JobFields(instants: [last]).schedule(at: Self.now).runAt == Timestamp(rfc3339: last))
        #expect(try JobFields(instants: ["2020-01-01T00:00:00Z"]).schedule(at: Self.now).runAt != nil)
        for text in ["2026-03-21T09:00:01Z", "3000-01-01T00:00:00Z", "tomorrow", "2026-03-15T09:00:00", ""] {
            let refusal = #expect(throws: Refusal.self, "\(text)") {
                try JobFields(instants: [text]).schedule(at: Self.now)
            }
            #expect(refusal?.code == .badRequest, "\(text)")
        }
    }

    @Test(
        "a body that takes no side between two APIs is refused, and so charged by neither",
        arguments: [
            (#"{"prompt": "a", "messages": []}"#, "/prompt"), (#"{"input": "a", "messages": []}"#, "/input"),
            (#"{"input": "a", "prompt": "a", "features": [1]}"#, "/input"),
        ])
    func ambiguous(body: String, location: String) {
        let refusal = #expect(throws: Refusal.self) { try Surface(told: ByteBuffer(string: body)) }
        #expect(refusal?.code == .validationFailed && refusal?.errors.first?.location == location)
    }

    @Test("the surface of a body is told by the field that it alone has")
    func told() throws {
        let cases: [(String, Surface)] = [
            (#"{"messages": []}"#, .chatCompletions), (#"{"prompt": "a", "features": [1]}"#, .completions),
            (#"{"input": []}"#, .embeddings), (#"{"features": [1]}"#, .predict), ("[]", .predict), ("{", .predict),
        ]
        for (body, surface) in cases { #expect(try Surface(told: ByteBuffer(string: body)) == surface, "\(body)") }
    }

    @Test("what goes along of a head comes back as it was")
    func head() throws {
        var call = InferenceCall(
            requestID: Domain.RequestID(high: 1, low: 1), receivedAt: Self.now, receivedNanoseconds: 0,
            credentials: .none, body: ByteBuffer(),
            trace: TraceContext(parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", state: "a=b"))
        call.cacheFields = [.control("max-age=60"), .use("refresh"), .ttl("5"), .label("x:y")]
        call.tagFields = ["env=prod,team=search"]
        let read = JobHead.read(try JobHead.text(call))
        #expect(read.tagFields == call.tagFields)
        #expect(read.cacheFields == call.cacheFields)
        #expect(read.trace == call.trace)
        call.cacheFields = [.control(String(repeating: "x", count: 9_000))]
        #expect(throws: Refusal.self) { try JobHead.text(call) }
    }

    @Test("the routes that make jobs")
    func routes() throws {
        for path in ["/predict/async", "/predict/async/", "/predict/async?x=1"] {
            #expect(try #require(MeteredRoutes.match(path)).isAsync, "\(path)")
        }
        let generate = try #require(MeteredRoutes.match("/generate"))
        #expect(generate.isAsync && generate.isSurfaceInBody)
        #expect(try #require(MeteredRoutes.match("/predict")).isAsync == false)
        #expect(MeteredRoutes.match("/predict/async/x") == nil)
    }

    @Test("who waits for a job is woken by its end, by the clock, or at once when too many wait")
    func waiters() async {
        let records = FakeJobRecords()
        let time = SystemTime()
        let waiters = JobWaiters(records: records, limit: 2, time: time, logger: Logger(label: "test"))
        let id = Domain.RequestID(high: 1, low: 1)
        let other = Domain.RequestID(high: 1, low: 2)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await waiters.run() }
            let start = time.monotonicNanoseconds
            await waiters.wait(for: other, milliseconds: 100)
            #expect(time.monotonicNanoseconds - start >= 100_000_000)
            records.end(id)
            await waiters.wait(for: id, milliseconds: 600_000)
            // Two wait for ever; the third does not wait at all.
            async let first: Void = waiters.wait(for: other, milliseconds: 600_000)
            async let second: Void = waiters.wait(for: other, milliseconds: 600_000)
            while waiters.count < 2 { await Task.yield() }
            await waiters.wait(for: other, milliseconds: 600_000)
            #expect(waiters.count == 2)
            waiters.ended([other])
            _ = await (first, second)
            group.cancelAll()
        }
    }

    @Test("the bound on queued jobs counts what the database says and what was added since")
    func desk() async throws {
        let records = FakeJobRecords()
        records.queued = 8
        let desk = JobDesk(submitter: NoSubmitter(), records: records, queuedLimit: 10, time: SystemTime())
        let tenant = TenantID(high: 1, low: 1)
        try await desk.admit(tenant)
        try await desk.admit(tenant)
        await #expect(throws: Refusal.self) { try await desk.admit(tenant) }
        try await desk.admit(TenantID(high: 1, low: 2))
    }
}

private struct NoSubmitter: JobSubmitter {
    func submit(_ submissions: [JobSubmission]) async -> [SubmissionResult] { submissions.map { _ in .queued } }
}

final class FakeJobRecords: JobRecords {
    private let state = Mutex((ended: Set<Domain.RequestID>(), queued: 0))

    var queued: Int {
        get { state.withLock { $0.queued } }
        set { state.withLock { $0.queued = newValue } }
    }

    func end(_ id: Domain.RequestID) { _ = state.withLock { $0.ended.insert(id) } }

    func job(_ id: Domain.RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> JobReading { .unknown }
    func cancel(_ id: Domain.RequestID, tenantID: TenantID) async throws(StoreUnavailable) -> CancelOutcome { .unknown }
    func cancel(batch: BatchID, tenantID: TenantID, limit: Int) async throws(StoreUnavailable) -> Int { 0 }
    func jobs(
        of batch: BatchID, tenantID: TenantID, after: Domain.RequestID?, limit: Int
    ) async throws(StoreUnavailable) -> [JobRow] { [] }
    func counts(of batch: BatchID, tenantID: TenantID) async throws(StoreUnavailable) -> [JobState: Int64] { [:] }
    func ended(among ids: [Domain.RequestID]) async throws(StoreUnavailable) -> Set<Domain.RequestID> {
        state.withLock { $0.ended.intersection(ids) }
    }
    func queuedCount(of tenantID: TenantID, bound: Int) async throws(StoreUnavailable) -> Int { queued }
}
