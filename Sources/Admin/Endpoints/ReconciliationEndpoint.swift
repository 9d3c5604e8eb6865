public import Billing
public import Domain
internal import HTTPListener
internal import Hummingbird
internal import Synchronization

/// What the routes of comparing the books stand on.
public struct AdminReconciliation: Sendable {
    public let reconciler: Reconciler
    public let administration: any ReconciliationAdministration
    /// One comparison at a time: each reads the whole window.
    let turn = ReconciliationTurn()

    public init(reconciler: Reconciler, administration: any ReconciliationAdministration) {
        self.reconciler = reconciler
        self.administration = administration
    }
}

/// Whether somebody compares.
final class ReconciliationTurn: Sendable {
    private let isTaken = Atomic(false)

    func take() -> Bool { !isTaken.exchange(true, ordering: .acquiringAndReleasing) }
    func leave() { isTaken.store(false, ordering: .releasing) }
}

/// `/admin/v1/reconcile`: whether the books agree.
struct ReconciliationEndpoint: Sendable {
    let reconciliation: AdminReconciliation?
    let time: any TimeSource

    private static let usualMilliseconds: Int64 = 35 * 86_400_000
    private static let longestMilliseconds: Int64 = 400 * 86_400_000

    func run(_ call: AdminCall) async throws -> Response {
        let reconciliation = try present
        let input = try await RequestBodyReader.object(call, fields: ["tenant", "start", "end"])
        let tenantID = input.nullable("tenant", .tenantID)
        let end = input.nullable("end", .instant) ?? time.now
        let start = input.nullable("start", .instant) ?? end.advanced(byMilliseconds: -Self.usualMilliseconds)
        if start >= end {
            input.note("end", "must be later than start", fix: "The range is half-open: start <= t < end.")
        }
        if end.milliseconds(since: start) > Self.longestMilliseconds {
            input.note("start", "is more than 400 days before end", fix: "Ask for a shorter range.")
        }
        try input.problems.check()
        if let tenantID { _ = try await reconciliation.administration.tenant(tenantID) }
        guard reconciliation.turn.take() else {
            throw Refusal(.conflict, "The books are being compared at this moment. Ask again when that has ended.")
        }
        defer { reconciliation.turn.leave() }
        let scope = ReconciliationScope(tenantID: tenantID, start: start, end: end)
        let began = time.monotonicNanoseconds
        let differences = try await reconciliation.reconciler.differences(in: scope)
        let took = Int64(clamping: (time.monotonicNanoseconds &- began) / 1_000_000)
        return try .json(
            ReconciliationAnswer(
                try await reconciliation.administration.recordReconciliation(
                    differences, of: scope, tookMilliseconds: took, by: call.actor)))
    }

    func list(_ call: AdminCall) async throws -> Response {
        let page = try await present.administration.reconciliations(try call.query.page { AuditID($0) })
        return try .json(ListAnswer(page, cursor: \.id.description, ReconciliationAnswer.init))
    }

    private var present: AdminReconciliation {
        get throws(Refusal) {
            guard let reconciliation else { throw Refusal(.notFound, "This server compares no books.") }
            return reconciliation
        }
    }
}

private struct ReconciliationAnswer: Encodable {
    let object = "reconciliation"
    let id: String
    @Present var tenantID: String?
    let start: String
    let end: String
    let differenceCount: Int64
    let differences: [Item]
    let createdBy: String
    let createdAt: String
    let tookMilliseconds: Int64

    struct Item: Encodable {
        let kind: String
        let id: String
        let expected: String
        let found: String
    }

    init(_ record: ReconciliationRecord) {
        id = record.id.description
        tenantID = record.scope.tenantID?.description
        start = record.scope.start.description
        end = record.scope.end.description
        differenceCount = record.differences.count
        differences = record.differences.list.map {
            Item(kind: $0.kind, id: $0.id, expected: $0.expected, found: $0.found)
        }
        createdBy = record.createdBy
        createdAt = record.createdAt.description
        tookMilliseconds = record.tookMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case object, id, start, end, differences
        case tenantID = "tenant_id"
        case differenceCount = "difference_count"
        case createdBy = "created_by"
        case createdAt = "created_at"
        case tookMilliseconds = "took_ms"
    }
}
