import Domain
import Synchronization
import Testing

@testable import Billing

/// Prepaid tenants by number, of which some cannot be looked at.
private final class FakeRecords: PrepaidRecords {
    struct State {
        var stamps: [UInt64: String] = [:]
        var used: [TenantID: Timestamp] = [:]
        var refused: Set<TenantID> = []
        var away: Set<TenantID> = []
        var looked: [UInt64] = []
        var positions: [String?] = []
    }

    let state = Mutex(State())

    static func tenant(_ number: UInt64) -> TenantID { TenantID(high: 1, low: number) }

    func setPrepaid(
        _ tenant: TenantID, _ isPrepaid: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> PrepaidStanding {
        PrepaidStanding(tenantID: tenant, isPrepaid: isPrepaid, isExhausted: false)
    }

    func prepaidTenants(after: TenantID?, limit: Int) async throws(AdministrationFailure) -> [PrepaidTenant] {
        state.withLock { state in
            state.stamps.sorted { $0.key < $1.key }.filter { after.map { $0.low } ?? 0 < $0.key }.prefix(limit).map {
                PrepaidTenant(tenantID: Self.tenant($0.key), billStamp: "", stamp: $0.value)
            }
        }
    }

    func prepaidUse(since position: String?) async throws(AdministrationFailure) -> PrepaidUse {
        state.withLock { state in
            state.positions.append(position)
            return PrepaidUse(position: "\(state.positions.count)", earliest: state.used)
        }
    }

    func weigh(_ tenant: TenantID, _ rule: BalanceRule) async throws(AdministrationFailure) -> PrepaidWeighing {
        let (isRefused, isAway) = state.withLock { state in
            state.looked.append(tenant.low)
            return (state.refused.contains(tenant), state.away.contains(tenant))
        }
        if isRefused { throw .refused(Refusal(.internalError, "", cause: "amountTooLarge")) }
        if isAway { throw .unavailable(StoreUnavailable(cause: "gone")) }
        return PrepaidWeighing(finding: nil, isChanged: true)
    }

    func takeLooked() -> [UInt64] {
        state.withLock { state in
            defer { state.looked = [] }
            return state.looked
        }
    }
}

@Suite("which prepaid tenants are looked at")
struct PrepaidWatchingTests {
    private func parts(_ count: UInt64) -> (FakeRecords, PrepaidWatching) {
        let records = FakeRecords()
        records.state.withLock { state in for number in 1...count { state.stamps[number] = "a" } }
        return (records, PrepaidWatching(records: records))
    }

    @Test("all at first, then those that something changed for")
    func changes() async throws {
        let (records, watching) = parts(3)
        #expect(try await watching.look().changed == 3)
        #expect(records.takeLooked() == [1, 2, 3])
        _ = try await watching.look()
        #expect(records.takeLooked() == [])
        records.state.withLock { state in
            state.stamps[2] = "b"
            state.used = [FakeRecords.tenant(3): Timestamp(microsecondsSince1970: 0)]
        }
        #expect(try await watching.look().lookedAt == 2)
        #expect(records.takeLooked() == [2, 3])
        #expect(records.state.withLock { $0.positions } == [nil, "1", "2"])
    }

    @Test("one that cannot be rated is named, looked at again, and keeps nobody from a look")
    func refused() async throws {
        let (records, watching) = parts(3)
        records.state.withLock { $0.refused = [FakeRecords.tenant(1)] }
        for _ in 1...2 {
            let outcome = try await watching.look()
            #expect(outcome.failed.map(\.tenantID) == [FakeRecords.tenant(1)])
            #expect(outcome.failed.first?.cause == "amountTooLarge" && outcome.failed.first?.isUnavailable == false)
        }
        #expect(records.takeLooked() == [1, 2, 3, 1])
    }

    @Test("one that the database does not answer for is passed over, three in a row end the look")
    func away() async throws {
        let (records, watching) = parts(5)
        records.state.withLock { $0.away = [FakeRecords.tenant(1), FakeRecords.tenant(2)] }
        #expect(try await watching.look().failed.count == 2)
        records.state.withLock { $0.away = Set((1...5).map(FakeRecords.tenant)) }
        _ = records.takeLooked()
        records.state.withLock { state in for number in UInt64(1)...5 { state.stamps[number] = "c" } }
        await #expect(throws: AdministrationFailure.self) { try await watching.look() }
        #expect(records.takeLooked() == [1, 2, 3])
    }
}
