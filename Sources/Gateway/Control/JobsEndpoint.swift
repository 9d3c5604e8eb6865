internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// `/api/v1/jobs/{id}`: what has become of a job, its result, and cancelling it.
struct JobsEndpoint: Sendable {
    let records: any JobRecords
    let waiters: JobWaiters
    let time: any TimeSource

    /// The longest that one request waits.
    static let waitLimitMilliseconds: Int64 = 60_000

    func one(_ request: Request, _ context: ControlContext) async throws -> Response {
        let query = try QueryParameters(request, allowed: ["wait"])
        let wait = try query.value(
            "wait", "a time from 0s to 60s", fix: "Send it as 20s or 500ms.", Self.milliseconds)
        let (id, tenantID) = try subject(context)
        var row = try await find(id, tenantID)
        let deadline = time.monotonicNanoseconds + UInt64(wait ?? 0) * 1_000_000
        while !row.state.isEnded, wait != nil {
            let now = time.monotonicNanoseconds
            guard now < deadline else { break }
            await waiters.wait(for: id, milliseconds: Int64((deadline - now) / 1_000_000))
            let before = row.state
            row = try await find(id, tenantID)
            // Told at once although nothing has changed: too many wait, or the server stops.
            if row.state == before, !row.state.isEnded { break }
        }
        return JobAnswer.full(row)
    }

    func result(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let (id, tenantID) = try subject(context)
        let row = try await find(id, tenantID)
        guard row.state == .completed, let answer = row.answer else {
            throw Refusal(
                .conflict,
                row.state.isEnded
                    ? "The job has no result: it is \(row.state.rawValue). GET /api/v1/jobs/\(id.publicText) says why."
                    : "The job has no result yet: it is \(row.state.rawValue). Ask again later.",
                retryAfterSeconds: row.state.isEnded ? nil : 1)
        }
        return JobAnswer.response(ByteBuffer(bytes: answer))
    }

    func cancel(_ request: Request, _ context: ControlContext) async throws -> Response {
        _ = try QueryParameters(request, allowed: [])
        let (id, tenantID) = try subject(context)
        switch try await records.cancel(id, tenantID: tenantID) {
        case .cancelled, .erased, .ended(.cancelled): break
        case .ended(let state):
            throw Refusal(.conflict, "The job cannot be cancelled any more: it is \(state.rawValue).")
        case .gone: throw Refusal.resultGone
        case .unknown: throw Refusal.noSuchJob
        }
        waiters.ended([id])
        return JobAnswer.full(try await find(id, tenantID))
    }

    private func subject(_ context: ControlContext) throws(Refusal) -> (Domain.RequestID, TenantID) {
        // A malformed id, an unknown one and another tenant's get the same answer.
        guard let text = context.parameters.get("id"), let id = Domain.RequestID(publicText: text) else {
            throw .noSuchJob
        }
        return (id, try context.caller.tenantID)
    }

    private func find(_ id: Domain.RequestID, _ tenantID: TenantID) async throws -> JobRow {
        switch try await records.job(id, tenantID: tenantID) {
        case .job(let row): return row
        case .gone: throw Refusal.resultGone
        case .unknown: throw Refusal.noSuchJob
        }
    }

    /// `20s`, `500ms` or plain seconds.
    private static func milliseconds(_ text: String) -> Int64? {
        let digits = text.prefix { ("0"..."9").contains($0) }
        guard !digits.isEmpty, digits.count <= 6, let number = Int64(digits) else { return nil }
        let value: Int64
        switch text.dropFirst(digits.count) {
        case "ms": value = number
        case "s", "": value = number * 1_000
        default: return nil
        }
        return value <= waitLimitMilliseconds ? value : nil
    }
}

extension Refusal {
    fileprivate static let noSuchJob = Refusal(.notFound, "There is no such job, or it is not yours to see.")
}
