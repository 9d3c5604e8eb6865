internal import Billing
internal import Domain
internal import Foundation
internal import HTTPListener

/// What a replay found.
struct TierReplayAnswer: Encodable {
    struct Bill: Encodable {
        let tenantID: String
        let name: String
        let period: String
        let beforeMicros: Int64
        let afterMicros: Int64
        let changeMicros: Int64

        enum CodingKeys: String, CodingKey {
            case name, period
            case tenantID = "tenant_id"
            case beforeMicros = "before_micros"
            case afterMicros = "after_micros"
            case changeMicros = "change_micros"
        }

        init(_ bill: ReplayedBill) {
            tenantID = bill.tenantID.description
            name = bill.name
            period = bill.periodID
            beforeMicros = bill.before.value
            afterMicros = bill.after.value
            changeMicros = Int64(clamping: bill.change)
        }
    }

    struct Group: Encodable {
        let count: Int
        let bills: [Bill]

        init(_ count: Int, _ bills: [ReplayedBill]) {
            self.count = count
            self.bills = bills.map(Bill.init)
        }
    }

    struct Shock: Encodable {
        let percent: Int64
        let amountMicros: Int64

        enum CodingKeys: String, CodingKey {
            case percent
            case amountMicros = "amount_micros"
        }
    }

    let object = "tier_replay"
    let tier: String
    let version: Int32
    let currency: String
    let scope: String
    let periods: Int
    @Present var until: String?
    let bills: Int
    let skipped: Int
    let approximate: Int
    let notSeen: [String]
    let reratedHits: Int64
    let beforeMicros: Int64
    let afterMicros: Int64
    let changeMicros: Int64
    let winners: Group
    let losers: Group
    let billShock: Group
    let shock: Shock
    let fingerprint: String
    let confirms: Bool
    @Present var digest: String?

    enum CodingKeys: String, CodingKey {
        case object, tier, version, currency, scope, periods, until, bills, skipped, approximate, winners, losers, shock
        case fingerprint, confirms, digest
        case notSeen = "not_seen"
        case reratedHits = "rerated_hits"
        case beforeMicros = "before_micros"
        case afterMicros = "after_micros"
        case changeMicros = "change_micros"
        case billShock = "bill_shock"
    }

    init(_ row: TierRow, _ order: ReplayOrder, _ summary: ReplaySummary) throws(Refusal) {
        guard let before = Int64(exactly: summary.before), let after = Int64(exactly: summary.after),
            let change = Int64(exactly: summary.after - summary.before)
        else {
            throw Refusal(.conflict, "The bills add up to more than 64 bits hold. Ask for fewer periods.")
        }
        tier = row.code
        version = row.version.number
        currency = row.version.offer.currency
        scope = order.scope.rawValue
        periods = order.periods
        until = order.until.map { String($0.description.prefix(7)) }
        bills = summary.billCount
        skipped = summary.skippedCount
        approximate = summary.approximateCount
        notSeen = summary.unseen.map(\.rawValue).sorted()
        reratedHits = Int64(clamping: summary.reratedHits)
        confirms = order.isWhole
        beforeMicros = before
        afterMicros = after
        changeMicros = change
        winners = Group(summary.winnerCount, summary.winners)
        losers = Group(summary.loserCount, summary.losers)
        billShock = Group(summary.shockCount, summary.shocks)
        shock = Shock(percent: summary.shock.percent, amountMicros: summary.shock.amount.value)
        fingerprint = String(summary.fingerprint, radix: 16)
    }
}

/// One tenant's bills of a replay, line by line.
struct TenantReplayAnswer: Encodable {
    struct Line: Encodable {
        let kind: String
        let priceVersion: String
        @Present var model: String?
        @Present var meter: String?
        @Present var band: Int16?
        let start: String
        let end: String
        @Present var quantityMillionths: String?
        @Present var unitPrice: String?
        let amountMicros: Int64

        enum CodingKeys: String, CodingKey {
            case kind, model, meter, band, start, end
            case priceVersion = "price_version"
            case quantityMillionths = "quantity_millionths"
            case unitPrice = "unit_price"
            case amountMicros = "amount_micros"
        }

        init(_ line: RatedLine) {
            kind = line.kind.rawValue
            priceVersion = line.tierVersionID.priceVersionText
            model = line.model
            meter = line.meter?.rawValue
            band = line.band
            start = line.start.description
            end = line.end.description
            quantityMillionths = line.quantityMillionths.map { String($0) }
            unitPrice = line.unitPrice?.description
            amountMicros = line.amount.value
        }
    }

    struct Side: Encodable {
        let subtotalMicros: Int64
        let lines: [Line]

        enum CodingKeys: String, CodingKey {
            case lines
            case subtotalMicros = "subtotal_micros"
        }

        init(_ rated: RatedPeriod) {
            subtotalMicros = rated.subtotal.value
            lines = rated.lines.map(Line.init)
        }
    }

    struct Bill: Encodable {
        let period: String
        let before: Side
        let after: Side
        let notSeen: [String]
        let reratedHits: Int64

        enum CodingKeys: String, CodingKey {
            case period, before, after
            case notSeen = "not_seen"
            case reratedHits = "rerated_hits"
        }
    }

    let object = "tenant_replay"
    let tier: String
    let version: Int32
    let tenantID: String
    let bills: [Bill]

    enum CodingKeys: String, CodingKey {
        case object, tier, version, bills
        case tenantID = "tenant_id"
    }

    init(_ row: TierRow, _ tenant: TenantID, _ bills: [TierReplayer.Bill]) {
        tier = row.code
        version = row.version.number
        tenantID = tenant.description
        self.bills = bills.map {
            Bill(
                period: $0.period.id, before: Side($0.before), after: Side($0.after),
                notSeen: $0.unseen.map(\.rawValue).sorted(), reratedHits: $0.reratedHits)
        }
    }
}

/// A replay that was made before.
struct PastReplayAnswer: Encodable {
    let object = "past_replay"
    let id: String
    let digest: String
    let confirms: Bool
    let createdAt: String
    @Present var result: JSONValue?

    enum CodingKeys: String, CodingKey {
        case object, id, digest, confirms, result
        case createdAt = "created_at"
    }

    init(_ row: TierReplayRow) {
        id = row.id.description
        digest = row.digest
        confirms = row.confirms
        createdAt = row.createdAt.description
        result = try? JSONDocument.parse(Array(row.result.utf8))
    }
}

/// JSON whose same value is always the same text.
enum JSONText {
    static func sorted(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
