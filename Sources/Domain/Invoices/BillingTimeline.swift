/// A stretch of time that one invoice bills: a calendar month, or what a change of the tenant's time zone made of one.
public struct BillingPeriod: Hashable, Sendable {
    public let start: Timestamp
    public let end: Timestamp
    /// Whose calendar it follows, an IANA name.
    public let timeZone: String
    /// The calendar month that its middle lies in. Fees, minimum and included amounts are those of this month: a period that is an hour
    /// longer has an hour more of them.
    public let month: Period

    /// - Returns: `nil` for an unknown zone.
    public init?(start: Timestamp, end: Timestamp, timeZone: String) {
        guard let calendar = PeriodCalendar(timeZone: timeZone) else { return nil }
        self.init(start: start, end: end, timeZone: timeZone, calendar)
    }

    fileprivate init(start: Timestamp, end: Timestamp, timeZone: String, _ calendar: PeriodCalendar) {
        self.start = start
        self.end = end
        self.timeZone = timeZone
        month = calendar.period(containing: Self.middle(start, end), frequency: .month)
    }

    public var period: Period { Period(start: start, end: end, id: month.id) }

    public var middle: Timestamp { Self.middle(start, end) }

    /// What people call it, as in `2026-03`.
    public var label: String { String(month.id.prefix { $0 != "@" }) }

    private static func middle(_ start: Timestamp, _ end: Timestamp) -> Timestamp {
        let length = end.microsecondsSince1970 - start.microsecondsSince1970
        return Timestamp(microsecondsSince1970: start.microsecondsSince1970 + length / 2)
    }
}

/// Which periods a tenant is billed for, whatever time zones it had: they follow one another without a gap and without an overlap.
///
/// A month begins where the period before it ended and ends where the tenant's own calendar ends it, or where an invoice of the next month begins
/// already. So a month after a move to the east is shorter by the hours that the last invoice had of it, and one after a move to the west is
/// longer by the hours that lie between.
public struct BillingTimeline: Sendable {
    /// What an invoice that was issued has taken of the time.
    public struct Taken: Hashable, Sendable {
        public let invoiceID: InvoiceID
        public let currency: String
        public let start: Timestamp
        public let end: Timestamp
        public let timeZone: String
        /// `false` for a void one whose period is left alone: the run passes it over, and who asks for it by name gets it.
        public let stands: Bool

        public init(
            invoiceID: InvoiceID, currency: String, start: Timestamp, end: Timestamp, timeZone: String, stands: Bool
        ) {
            self.invoiceID = invoiceID
            self.currency = currency
            self.start = start
            self.end = end
            self.timeZone = timeZone
            self.stands = stands
        }

        fileprivate func contains(_ instant: Timestamp) -> Bool { start <= instant && instant < end }
    }

    /// Local times differ by 26 hours at most, and clocks are changed by up to two: months of different zones that begin nearer to each other
    /// than this are the same month.
    private static let slackMicroseconds: Int64 = 172_800_000_000

    private let timeZone: String
    private let calendar: PeriodCalendar
    private let taken: [Taken]

    /// - Parameter timeZone: whose calendar ends new periods.
    /// - Returns: `nil` for an unknown zone.
    public init?(timeZone: String, taken: [Taken]) {
        guard let calendar = PeriodCalendar(timeZone: timeZone) else { return nil }
        self.timeZone = timeZone
        self.calendar = calendar
        self.taken = taken
    }

    /// The invoice that stands for an instant.
    public func standing(at instant: Timestamp) -> Taken? { taken.first { $0.stands && $0.contains(instant) } }

    /// The period to bill that holds an instant; `nil` where an invoice stands for it. It overlaps no invoice that stands.
    public func period(holding instant: Timestamp) -> BillingPeriod? {
        guard standing(at: instant) == nil else { return nil }
        let others = taken.filter { !$0.contains(instant) }
        let before = others.map(\.end).filter { $0 <= instant }.max()
        let after = others.map(\.start).filter { $0 > instant }.min()
        var month = calendar.period(containing: instant, frequency: .month)
        if let before, Self.microseconds(before, month.end) < Self.slackMicroseconds {
            // What is left of this month is the hours that a move to the west has added.
            month = calendar.period(containing: month.end, frequency: .month)
        }
        var start = month.start
        var end = month.end
        if let before, Self.microseconds(before, month.start) < Self.slackMicroseconds { start = before }
        if let after, Self.microseconds(month.end, after) <= Self.slackMicroseconds { end = after }
        return BillingPeriod(start: start, end: end, timeZone: timeZone, calendar)
    }

    /// Below zero where `end` is before `start`.
    private static func microseconds(_ start: Timestamp, _ end: Timestamp) -> Int64 {
        end.microsecondsSince1970 - start.microsecondsSince1970
    }
}
