/// When a delivery that failed is tried again: each pause is four times the one before it, up to a longest one, and differs by chance so that
/// what failed together does not come back together.
public struct WebhookRetryPolicy: Equatable, Sendable {
    public enum Decision: Equatable, Sendable {
        case again(afterMilliseconds: Int64)
        case giveUp
    }

    /// The pause behind the first attempt.
    public let firstMilliseconds: Int64
    /// How long after it was due for the first time a delivery is tried.
    public let spanMilliseconds: Int64

    /// The longest pause.
    private static let longestMilliseconds: Int64 = 4 * 3_600_000

    public init(firstMilliseconds: Int64 = 5_000, spanMilliseconds: Int64 = 86_400_000) {
        self.firstMilliseconds = max(1, firstMilliseconds)
        self.spanMilliseconds = max(1, spanMilliseconds)
    }

    /// - Parameters:
    ///   - tries: attempts so far, the failed one included.
    ///   - ageMilliseconds: since the delivery was due for the first time.
    public func decision(
        afterTries tries: Int, ageMilliseconds: Int64, using generator: inout some RandomNumberGenerator
    ) -> Decision {
        guard ageMilliseconds < spanMilliseconds else { return .giveUp }
        var pause = firstMilliseconds
        for _ in 1..<max(2, min(tries, 64)) where tries > 1 && pause < Self.longestMilliseconds { pause *= 4 }
        pause = min(pause, max(firstMilliseconds, Self.longestMilliseconds))
        // From four fifths to six fifths.
        let jittered = pause * 4 / 5 + Int64.random(in: 0...max(1, pause * 2 / 5), using: &generator)
        // The last attempt is at the end of the span, not one pause before it.
        return .again(afterMilliseconds: max(1, min(jittered, spanMilliseconds - ageMilliseconds)))
    }
}
