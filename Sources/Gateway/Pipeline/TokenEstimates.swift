internal import Domain
internal import Synchronization

/// What requests of each model use for their size, learnt from what its workers report. Corrects itself with every answer; forgotten with the
/// process.
final class TokenEstimates: Sendable {
    /// Beyond so many models no further one is learnt: names come from routes, and these are the operator's.
    private static let modelLimit = 10_000

    private let ratios = Mutex<[String: TokenRatio]>([:])

    func observe(_ usage: Usage, of model: String, requestBytes: Int64) {
        guard usage.source == .worker else { return }
        ratios.withLock { ratios in
            guard ratios[model] != nil || ratios.count < Self.modelLimit else { return }
            ratios[model, default: TokenRatio()].observe(tokens: usage.totalTokens, bytes: requestBytes)
        }
    }

    /// - Returns: `nil` before the model's workers have reported anything.
    func expectedTokens(of model: String, requestBytes: Int64) -> Int64? {
        ratios.withLock { $0[model]?.expectedTokens(forBytes: requestBytes) }
    }
}
