public import Domain

/// What a tenant is on, as both listeners answer it.
public struct SubscriptionAnswer: Encodable {
    struct Stay: Encodable {
        let tier: String
        let priceVersion: String
        let currency: String
        let startsAt: String
        @Present var endsAt: String?
        @Present var trialEndsAt: String?

        enum CodingKeys: String, CodingKey {
            case tier, currency
            case priceVersion = "price_version"
            case startsAt = "starts_at"
            case endsAt = "ends_at"
            case trialEndsAt = "trial_ends_at"
        }

        init(_ row: SubscriptionRow) {
            tier = row.tierCode
            priceVersion = row.tierVersionID.priceVersionText
            currency = row.currency
            startsAt = row.startsAt.description
            endsAt = row.endsAt?.description
            trialEndsAt = row.trialEndsAt?.description
        }
    }

    struct Change: Encodable {
        let tier: String
        let priceVersion: String
        let dueAt: String

        enum CodingKeys: String, CodingKey {
            case tier
            case priceVersion = "price_version"
            case dueAt = "due_at"
        }

        init(_ row: SubscriptionChangeRow) {
            tier = row.tierCode
            priceVersion = row.tierVersionID.priceVersionText
            dueAt = row.dueAt.description
        }
    }

    struct Span: Encodable {
        let start: String
        let end: String
    }

    let object = "subscription"
    let tenantID: String
    @Present var current: Stay?
    @Present var scheduled: Change?
    let isTrial: Bool
    let period: Span
    let timeZone: String
    let history: [Stay]

    enum CodingKeys: String, CodingKey {
        case object, current, scheduled, period, history
        case tenantID = "tenant_id"
        case isTrial = "trial"
        case timeZone = "time_zone"
    }

    public init(_ standing: SubscriptionStanding) {
        tenantID = standing.account.tenantID.description
        isTrial = standing.current?.trialEndsAt.map { standing.now < $0 } ?? false
        let running = standing.period
        period = Span(start: running.start.description, end: running.end.description)
        timeZone = standing.account.timeZone
        history = standing.stays.map { Stay($0) }
        current = standing.current.map { Stay($0) }
        scheduled = standing.scheduled.map { Change($0) }
    }
}
