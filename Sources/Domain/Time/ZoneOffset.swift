internal import Foundation

/// The one place that asks Foundation anything: how far a time zone is from UTC at an instant.
public struct ZoneOffset: Sendable {
    private let zone: TimeZone

    /// - Returns: `nil` if `identifier` is not an IANA time zone that this machine knows.
    public init?(identifier: String) {
        guard let zone = TimeZone(identifier: identifier) else { return nil }
        self.zone = zone
    }

    /// UTC, the zone of a tenant that chose none.
    public static let utc = ZoneOffset(zone: .gmt)

    private init(zone: TimeZone) { self.zone = zone }

    /// Seconds to add to UTC to get local time at `secondsSince1970`.
    func seconds(at secondsSince1970: Int64) -> Int64 {
        // Whole seconds below 2⁵³ are exact in the Double that Foundation wants; nothing is measured with it.
        Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: TimeInterval(secondsSince1970))))
    }

    /// The first instant, in seconds since 1970, at which the clocks show `local` (seconds since 1970 as a local clock counts them) or a
    /// later time. It never goes back as `local` grows, whatever the clocks do.
    func firstInstant(ofLocal local: Int64) -> Int64 {
        // No zone is or was farther from UTC than this.
        let reach: Int64 = 57_600
        var before = local - reach
        var offset = seconds(at: before)
        if seconds(at: local + reach) == offset { return local - offset }
        // The clocks change nearby. Changes are hours apart, so each step meets one at the most.
        while before < local + reach {
            var after = before + 3_600
            let next = seconds(at: after)
            if next != offset {
                // The last second before the change and the first one after it.
                while after - before > 1 {
                    let middle = before + (after - before) / 2
                    if seconds(at: middle) == offset { before = middle } else { after = middle }
                }
            }
            if local - offset < after { return local - offset }
            if after + next >= local { return after }
            before = after
            offset = next
        }
        return local - offset
    }
}
