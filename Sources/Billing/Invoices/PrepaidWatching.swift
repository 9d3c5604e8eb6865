public import Domain
internal import Synchronization

/// Compares what is left of prepaid tenants' credits with what they have used and no invoice has charged yet.
///
/// A tenant is looked at where something has changed that its balance follows from: its entries in the ledger, its credits, stays and
/// invoices, or the quarter of an hour. What it follows from is kept in memory between two looks, so the first look of a process is at all.
public final class PrepaidWatching: Sendable {
    /// What came of a look at all tenants.
    public struct Outcome: Sendable {
        /// How many were found used up, or are so no more.
        public var changed = 0
        public var lookedAt = 0
        /// Those that could not be looked at, with a text for the log; the first hundred. They stay as they were.
        public var failed: [Failed] = []

        public struct Failed: Sendable {
            public let tenantID: TenantID
            public let cause: String
            public let isUnavailable: Bool
        }
    }

    /// A tenant as it was last looked at.
    private struct Mark {
        let billStamp: String
        let stamp: String
        let finding: BalanceFinding?
    }

    private struct State {
        var position: String?
        var marks: [TenantID: Mark] = [:]
    }

    /// Behind so many in a row that the database did not answer for, a look ends.
    private static let unavailableLimit = 3

    private let records: any PrepaidRecords
    private let state = Mutex(State())

    public init(records: any PrepaidRecords) { self.records = records }

    /// Looks once at all prepaid tenants that something has changed for. Not to be called while it runs.
    public func look() async throws(AdministrationFailure) -> Outcome {
        var outcome = Outcome()
        let known = state.withLock { $0 }
        let use = try await records.prepaidUse(since: known.position)
        var marks: [TenantID: Mark] = [:]
        var unavailable = 0
        var after: TenantID?
        while !Task.isCancelled {
            let tenants = try await records.prepaidTenants(after: after, limit: 100)
            guard let last = tenants.last else { break }
            after = last.tenantID
            for tenant in tenants {
                let id = tenant.tenantID
                let mark = known.marks[id]
                if let mark, mark.billStamp == tenant.billStamp, mark.stamp == tenant.stamp, use.earliest[id] == nil {
                    marks[id] = mark
                    continue
                }
                do throws(AdministrationFailure) {
                    let before = Self.finding(mark, tenant, use.earliest[id])
                    let weighing = try await records.weigh(id) { bill in
                        try await PrepaidBalancing(bill: bill, before: before).find()
                    }
                    outcome.lookedAt += 1
                    if weighing.isChanged { outcome.changed += 1 }
                    marks[id] = Mark(billStamp: tenant.billStamp, stamp: tenant.stamp, finding: weighing.finding)
                    unavailable = 0
                } catch {
                    let failed = Outcome.Failed(id, error)
                    if outcome.failed.count < 100 { outcome.failed.append(failed) }
                    unavailable = failed.isUnavailable ? unavailable + 1 : 0
                    guard unavailable < Self.unavailableLimit else { throw error }
                }
            }
        }
        // What a look that was ended early did not reach is looked at by the next one, as everything without a mark is.
        state.withLock { $0 = State(position: use.position, marks: marks) }
        return outcome
    }

    /// What was found before, unless an invoice or an entry of an invoiced period is new.
    private static func finding(_ mark: Mark?, _ tenant: PrepaidTenant, _ earliest: Timestamp?) -> BalanceFinding? {
        guard let mark, mark.billStamp == tenant.billStamp, let finding = mark.finding else { return nil }
        guard let earliest, let openSince = finding.openSince else { return finding }
        return earliest < openSince ? nil : finding
    }
}

extension PrepaidWatching.Outcome.Failed {
    fileprivate init(_ tenantID: TenantID, _ failure: AdministrationFailure) {
        switch failure {
        case .refused(let refusal):
            self.init(tenantID: tenantID, cause: refusal.cause ?? refusal.detail, isUnavailable: false)
        case .unavailable(let error): self.init(tenantID: tenantID, cause: error.cause, isUnavailable: true)
        }
    }
}
