import Domain
import TestSupport
import Testing

@Suite("How tokens are counted") struct TokenCountingTests {
    private func usage(
        _ counting: TokenCounting, reported: (Int64?, Int64?, Int64?) = (70, 20, 9), bytesPerToken: Int64 = 4
    ) -> Usage {
        ModelProfile(
            name: "m", version: "1", featureCount: nil, fixedTokensPerRequest: 5, maximumOutputTokens: 10,
            tokenCounting: counting, bytesPerToken: bytesPerToken
        ).usage(
            of: MeteredExchange(
                reportedInputTokens: reported.0, reportedCachedInputTokens: reported.1,
                reportedOutputTokens: reported.2,
                inputNumbers: 8, rows: 2, requestBytes: 41, answerBytes: 100))
    }

    @Test("by the worker's report, and the fixed number where there is none") func worker() {
        #expect(usage(.worker) == Usage(inputTokens: 70, cachedInputTokens: 20, outputTokens: 9, source: .worker))
        #expect(usage(.worker, reported: (nil, nil, 9)) == Usage(inputTokens: 0, outputTokens: 9, source: .worker))
        #expect(usage(.worker, reported: (0, nil, nil)) == Usage(inputTokens: 0, outputTokens: 0, source: .worker))
        #expect(usage(.worker, reported: (nil, nil, nil)) == Usage(inputTokens: 5, outputTokens: 0, source: .fixed))
    }

    @Test("by the gateway, whatever the worker reports") func others() {
        #expect(usage(.counted) == Usage(inputTokens: 8, outputTokens: 2, source: .counted))
        #expect(usage(.fixed) == Usage(inputTokens: 5, outputTokens: 0, source: .fixed))
    }

    @Test(
        "by size, rounded up, the answer at most what the model may produce",
        arguments: [(4, 11, 20), (1, 41, 20), (41, 1, 3), (1_000, 1, 1), (0, 41, 20)] as [(Int64, Int64, Int64)])
    func payload(bytesPerToken: Int64, input: Int64, output: Int64) {
        #expect(
            usage(.payload, bytesPerToken: bytesPerToken)
                == Usage(inputTokens: input, outputTokens: output, source: .estimated))
    }

    @Test("an expectation follows what is reported") func ratio() throws {
        var ratio = TokenRatio()
        #expect(ratio.expectedTokens(forBytes: 100) == nil)
        ratio.observe(tokens: 30, bytes: 100)
        #expect(ratio.expectedTokens(forBytes: 100) == 30)
        #expect(ratio.expectedTokens(forBytes: 1) == 1)
        #expect(ratio.expectedTokens(forBytes: 0) == 0)
        for _ in 0..<1_000 { ratio.observe(tokens: 80, bytes: 100) }
        #expect(try (79...81).contains(#require(ratio.expectedTokens(forBytes: 100))))
        let before = ratio.expectedTokens(forBytes: 1_000)
        ratio.observe(tokens: 5, bytes: 0)
        ratio.observe(tokens: -5, bytes: 100)
        #expect(ratio.expectedTokens(forBytes: 1_000) == before, "what cannot be is not observed")
    }

    @Test("no sequence of reports overflows", arguments: 0..<8 as Range<UInt64>) func extremes(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var ratio = TokenRatio()
        let values: [Int64] = [0, 1, 3, 1 << 20, 1 << 40, .max]
        for _ in 0..<5_000 {
            ratio.observe(
                tokens: values.randomElement(using: &random) ?? 0, bytes: values.randomElement(using: &random) ?? 0)
        }
        for count in values { #expect(ratio.expectedTokens(forBytes: count).map { $0 >= 0 } ?? true) }
    }
}
