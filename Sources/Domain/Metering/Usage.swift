/// What one request used.
public struct Usage: Equatable, Sendable {
    /// Who counted the tokens; stored with every count, because a bill must be able to say so.
    public enum Source: String, Sendable, CaseIterable {
        /// The worker reported them.
        case worker
        /// The gateway counted them.
        case counted
        /// The model's fixed number per request.
        case fixed
        /// Estimated from the size of the payload.
        case estimated
        /// Served from the cache.
        case cache
    }

    public var inputTokens: Int64
    /// The part of `inputTokens` that the worker served from its own cache.
    public var cachedInputTokens: Int64
    public var outputTokens: Int64
    public var source: Source

    public init(inputTokens: Int64, cachedInputTokens: Int64 = 0, outputTokens: Int64, source: Source) {
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
        self.source = source
    }

    public static let none = Usage(inputTokens: 0, outputTokens: 0, source: .fixed)

    /// What counts against a token quota.
    public var totalTokens: Int64 { inputTokens.addingReportingOverflow(outputTokens).partialValue }

    /// The usage that may be charged when the worker reports more than was held: a worker must not be able to overdraw a customer's
    /// hard limit, and a negative count is never taken. Output is cut first, because the input is what the customer sent.
    /// - Returns: the clamped usage, and whether anything was clamped, which is an alarm.
    public func clamped(toTokens bound: Int64) -> (usage: Usage, wasClamped: Bool) {
        var clamped = self
        clamped.inputTokens = min(max(inputTokens, 0), bound)
        clamped.outputTokens = min(max(outputTokens, 0), bound - clamped.inputTokens)
        clamped.cachedInputTokens = min(max(cachedInputTokens, 0), clamped.inputTokens)
        return (clamped, clamped != self)
    }
}

extension Timestamp {
    /// Whether a range of usage may begin or end here. Usage is summed by quarters of an hour, on one of which every time zone's midnight
    /// falls; a range that cuts a quarter in two could only guess.
    public var isUsageEdge: Bool { microsecondsSince1970 % 900_000_000 == 0 }

    /// The start of the quarter of an hour in which this is, for instants from 1970 on.
    public var usageBucketStart: Timestamp {
        Timestamp(microsecondsSince1970: microsecondsSince1970 - microsecondsSince1970 % 900_000_000)
    }
}
