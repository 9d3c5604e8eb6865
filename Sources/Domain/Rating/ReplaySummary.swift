/// What one tenant's period cost, and would cost.
public struct ReplayedBill: Hashable, Sendable {
    public let tenantID: TenantID
    public let name: String
    /// As ``PeriodCalendar`` names it.
    public let periodID: String
    public let before: Micros
    public let after: Micros
    /// Terms that were others then and that the bill cannot show at work.
    public let unseen: Set<UnseenTerm>
    /// Hits whose tokens were charged anew.
    public let reratedHits: Int64

    public init(
        tenantID: TenantID, name: String, periodID: String, before: Micros, after: Micros,
        unseen: Set<UnseenTerm> = [], reratedHits: Int64 = 0
    ) {
        self.tenantID = tenantID
        self.name = name
        self.periodID = periodID
        self.before = before
        self.after = after
        self.unseen = unseen
        self.reratedHits = reratedHits
    }

    /// What is asked more; negative where it is less.
    public var change: Int128 { Int128(after.value) - Int128(before.value) }
}

/// From when on a higher bill is one that somebody should be told of.
public struct BillShock: Hashable, Sendable {
    /// Of the bill before.
    public let percent: Int64
    public let amount: Micros

    public init(percent: Int64, amount: Micros) {
        self.percent = percent
        self.amount = amount
    }

    /// Whether a bill rises by more than both.
    public func isMet(by bill: ReplayedBill) -> Bool {
        bill.change > Int128(amount.value) && bill.change * 100 > Int128(bill.before.value) * Int128(percent)
    }
}

/// Adds up a replay, bill by bill; keeps the bills that moved most and no others, so that its size does not grow with the tenants.
public struct ReplaySummary: Sendable {
    public static let listLimit = 100

    public let shock: BillShock
    public private(set) var billCount = 0
    /// Bills that could not be rated with the version, such as those in another currency.
    public private(set) var skippedCount = 0
    /// Bills among them all that would have been charged otherwise by what is not known of them, and the terms that do.
    public private(set) var approximateCount = 0
    public private(set) var unseen: Set<UnseenTerm> = []
    public private(set) var reratedHits: Int128 = 0
    public private(set) var before: Int128 = 0
    public private(set) var after: Int128 = 0
    public private(set) var winnerCount = 0
    public private(set) var loserCount = 0
    public private(set) var shockCount = 0
    /// Those that fall most, the greatest fall first.
    public private(set) var winners: [ReplayedBill] = []
    /// Those that rise most, the greatest rise first.
    public private(set) var losers: [ReplayedBill] = []
    public private(set) var shocks: [ReplayedBill] = []
    /// Of all bills in their order, so that two replays with the same sums and other bills differ.
    public private(set) var fingerprint: UInt64 = 0xCBF2_9CE4_8422_2325

    public init(shock: BillShock) { self.shock = shock }

    public mutating func add(_ bill: ReplayedBill) {
        billCount += 1
        if !bill.unseen.isEmpty { approximateCount += 1 }
        unseen.formUnion(bill.unseen)
        reratedHits += Int128(bill.reratedHits)
        before += Int128(bill.before.value)
        after += Int128(bill.after.value)
        for word in [
            bill.tenantID.high, bill.tenantID.low, UInt64(bitPattern: bill.before.value),
            UInt64(bitPattern: bill.after.value),
        ] { mix(word) }
        if bill.change < 0 {
            winnerCount += 1
            Self.insert(bill, into: &winners) { $0.change < $1.change }
        } else if bill.change > 0 {
            loserCount += 1
            Self.insert(bill, into: &losers) { $0.change > $1.change }
        }
        if shock.isMet(by: bill) {
            shockCount += 1
            Self.insert(bill, into: &shocks) { $0.change > $1.change }
        }
    }

    public mutating func skip(_ tenant: TenantID) {
        skippedCount += 1
        mix(tenant.high)
        mix(tenant.low)
    }

    /// FNV-1a over whole words.
    private mutating func mix(_ word: UInt64) { fingerprint = (fingerprint ^ word) &* 0x0000_0100_0000_01B3 }

    private static func insert(
        _ bill: ReplayedBill, into list: inout [ReplayedBill], _ precedes: (ReplayedBill, ReplayedBill) -> Bool
    ) {
        if list.count == listLimit, let last = list.last, !precedes(bill, last) { return }
        let index = list.firstIndex { precedes(bill, $0) } ?? list.count
        list.insert(bill, at: index)
        if list.count > listLimit { list.removeLast() }
    }
}
