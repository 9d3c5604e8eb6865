internal import Domain

/// What a stream is charged, from what is known of it at its end. A pure function, because this is where others have billed twice, nothing,
/// or what nobody got.
struct StreamTally {
    let profile: ModelProfile
    let reported: OpenAIUsage
    /// Handed to the caller's connection.
    let deliveredTokens: Int64
    /// Made by the worker.
    let generatedTokens: Int64
    /// Of the request's texts, for workers that end before they say what it counted as.
    let promptBytes: Int64
    let deliveredBytes: Int64

    /// - Parameters:
    ///   - end: how the stream ended.
    ///   - leave: what is charged where the caller left.
    func usage(end: StreamEnd, leave: StreamLeave) -> Usage {
        if profile.tokenCounting == .fixed {
            return Usage(inputTokens: profile.fixedTokensPerRequest, outputTokens: 0, source: .fixed)
        }
        if profile.tokenCounting == .payload {
            return Usage(
                inputTokens: tokens(forBytes: promptBytes), outputTokens: tokens(forBytes: deliveredBytes),
                source: .estimated)
        }
        let output: Int64
        switch end {
        case .finished: output = generatedTokens
        case .clientLeft where leave == .drain: output = generatedTokens
        // What the worker made behind the bound, or behind what the caller has, is nobody's to pay for.
        case .clientLeft, .workerFailed, .cutAtBound, .deadline, .stopping: output = deliveredTokens
        }
        guard let input = reported.inputTokens else {
            return Usage(inputTokens: tokens(forBytes: promptBytes), outputTokens: output, source: .estimated)
        }
        let isWhole = output == reported.outputTokens
        return Usage(
            inputTokens: input, cachedInputTokens: min(reported.cachedInputTokens ?? 0, input), outputTokens: output,
            source: isWhole ? .worker : .counted)
    }

    /// Rounded up.
    private func tokens(forBytes bytes: Int64) -> Int64 {
        let divisor = max(1, profile.bytesPerToken)
        return bytes / divisor + (bytes % divisor > 0 ? 1 : 0)
    }
}
