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
}
