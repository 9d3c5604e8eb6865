/// How a stream ended that was charged.
public enum StreamEnd: String, Sendable, CaseIterable {
    /// The worker said that it was over, and the caller has all of it.
    case finished
    case clientLeft = "client_left"
    case workerFailed = "worker_failed"
    /// The worker went on behind what was held for the request.
    case cutAtBound = "cut_at_bound"
    /// A deadline of the model was over.
    case deadline
    /// The gateway was stopped and could not wait for the end.
    case stopping
}

/// What became of a stream, kept beside the request. Counts are output tokens.
public struct StreamRecord: Sendable, Equatable {
    public let end: StreamEnd
    /// Handed to the caller's connection.
    public let deliveredTokens: Int64
    /// Made by the worker, as far as is known.
    public let generatedTokens: Int64

    public init(end: StreamEnd, deliveredTokens: Int64, generatedTokens: Int64) {
        self.end = end
        self.deliveredTokens = deliveredTokens
        self.generatedTokens = generatedTokens
    }
}

/// What is done, and charged, when the caller of a stream leaves before its end.
public enum StreamLeave: String, Sendable, CaseIterable {
    /// The worker is told to stop, and what was delivered is charged.
    case cancel
    /// The worker goes on to its end, and all of it is charged: for workers whose work is done whether somebody listens or not.
    case drain
}
