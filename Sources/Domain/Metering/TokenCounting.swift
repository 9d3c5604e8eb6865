/// How the tokens of a model's requests are counted. The operator chooses it with the model; the source of each count is stored with it.
public enum TokenCounting: String, Sendable, CaseIterable {
    /// As the worker reports them; the model's fixed number where it reports none.
    case worker
    /// By the gateway: one token for each number of the input, and one for each row that is answered.
    case counted
    /// The model's fixed number for each request, whatever the worker reports.
    case fixed
    /// By size: the bytes of the request and of the answer, divided by the model's bytes per token, rounded up.
    case payload
}

/// What a request and its answer offer to be counted by.
public struct MeteredExchange: Sendable {
    /// What the worker reported; `nil` where it reported none: zero and unknown are different.
    public var reportedInputTokens: Int64?
    public var reportedCachedInputTokens: Int64?
    public var reportedOutputTokens: Int64?
    public var inputNumbers: Int64
    public var rows: Int64
    public var requestBytes: Int64
    public var answerBytes: Int64
    /// Bytes of the texts of a request whose answer is made of them; `nil` for a prediction. Where the worker reports nothing, tokens are
    /// estimated from it: a fixed number would give long answers away.
    public var textBytes: Int64?

    public init(
        reportedInputTokens: Int64?, reportedCachedInputTokens: Int64?, reportedOutputTokens: Int64?,
        inputNumbers: Int64, rows: Int64, requestBytes: Int64, answerBytes: Int64,
        textBytes: Int64? = nil
    ) {
        self.textBytes = textBytes
        self.reportedInputTokens = reportedInputTokens
        self.reportedCachedInputTokens = reportedCachedInputTokens
        self.reportedOutputTokens = reportedOutputTokens
        self.inputNumbers = inputNumbers
        self.rows = rows
        self.requestBytes = requestBytes
        self.answerBytes = answerBytes
    }
}

extension ModelProfile {
    /// What an exchange used, by the model's own way of counting.
    public func usage(of exchange: MeteredExchange) -> Usage {
        switch tokenCounting {
        case .worker:
            guard exchange.reportedInputTokens != nil || exchange.reportedOutputTokens != nil else {
                return exchange.textBytes.map { estimate(exchange, inputBytes: $0) } ?? fixedUsage
            }
            return Usage(
                inputTokens: exchange.reportedInputTokens ?? 0,
                cachedInputTokens: exchange.reportedCachedInputTokens ?? 0,
                outputTokens: exchange.reportedOutputTokens ?? 0, source: .worker)
        case .counted:
            return Usage(inputTokens: exchange.inputNumbers, outputTokens: exchange.rows, source: .counted)
        case .fixed: return fixedUsage
        case .payload: return estimate(exchange, inputBytes: exchange.requestBytes)
        }
    }

    private func estimate(_ exchange: MeteredExchange, inputBytes: Int64) -> Usage {
        Usage(
            inputTokens: tokens(forBytes: inputBytes),
            // The answer's size is the worker's to choose, what it may cost is not.
            outputTokens: min(
                tokens(forBytes: exchange.answerBytes),
                maximumOutputTokens.multipliedReportingOverflow(by: exchange.rows).partialValue),
            source: .estimated)
    }

    /// Rounded up.
    private func tokens(forBytes bytes: Int64) -> Int64 {
        let divisor = max(1, bytesPerToken)
        return bytes / divisor + (bytes % divisor > 0 ? 1 : 0)
    }

    private var fixedUsage: Usage { Usage(inputTokens: fixedTokensPerRequest, outputTokens: 0, source: .fixed) }
}

/// What requests of one model use for their size, as their workers report it: a moving ratio in which a request counts for less the longer it
/// is past. An expectation for quotes; what is held is an upper bound, and what is charged is the count itself. A value.
public struct TokenRatio: Sendable {
    /// The last request weighs a 64th of all.
    private static let memory: Int64 = 64
    /// Larger samples say no more about the ratio.
    private static let sampleLimit: Int64 = 1 << 24

    private var tokens: Int64 = 0
    private var bytes: Int64 = 0

    public init() {}

    public mutating func observe(tokens observedTokens: Int64, bytes observedBytes: Int64) {
        guard observedBytes > 0, observedTokens >= 0 else { return }
        tokens += min(observedTokens, Self.sampleLimit) * Self.memory - tokens / Self.memory
        bytes += min(observedBytes, Self.sampleLimit) * Self.memory - bytes / Self.memory
    }

    /// Tokens to expect, rounded up; `nil` before anything was observed.
    public func expectedTokens(forBytes count: Int64) -> Int64? {
        guard bytes > 0, count >= 0 else { return nil }
        let (quotient, remainder) = (Int128(count) * Int128(tokens)).quotientAndRemainder(dividingBy: Int128(bytes))
        return Int64(clamping: quotient + (remainder > 0 ? 1 : 0))
    }
}
