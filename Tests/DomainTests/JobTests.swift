import Domain
import Testing

@Suite("jobs")
struct JobTests {
    @Test("an ended job has no successor, but for a failed one that an operator tries again")
    func states() {
        for state in JobState.allCases {
            #expect(state.isEnded == state.successors.isSubset(of: [.queued]) || state == .queued)
            for next in state.successors { #expect(next != state) }
        }
        #expect(JobState.failed.successors == [.queued])
        #expect(JobState.processing.successors.count == 5)
    }

    @Test("the pause is anything up to a ceiling that doubles and has an end")
    func backoff() {
        let backoff = JobBackoff(baseMilliseconds: 1_000, limitMilliseconds: 300_000)
        #expect(
            (1...5).map { backoff.ceilingMilliseconds(afterAttempt: $0) } == [1_000, 2_000, 4_000, 8_000, 16_000])
        #expect(backoff.ceilingMilliseconds(afterAttempt: 30) == 300_000)
        #expect(backoff.ceilingMilliseconds(afterAttempt: .max) == 300_000)
        #expect(backoff.ceilingMilliseconds(afterAttempt: 0) == 1_000)
        #expect(backoff.milliseconds(afterAttempt: 3, jitter: 0) == 0)
        #expect(backoff.milliseconds(afterAttempt: 3, jitter: 4_000) == 4_000)
        var random = SystemRandomNumberGenerator()
        for _ in 0..<1_000 {
            #expect((0...4_000).contains(backoff.milliseconds(afterAttempt: 3, jitter: random.next())))
        }
    }

    @Test("a worker that failed is tried again until the attempts are used up")
    func transient() {
        for number in Int32(1)...4 {
            guard case .retry = JobDisposition.of(Refusal(.badUpstream, ""), attempt: number, limit: 5, jitter: 1)
            else {
                Issue.record("attempt \(number) is not tried again")
                continue
            }
        }
        #expect(JobDisposition.of(Refusal(.badUpstream, ""), attempt: 5, limit: 5, jitter: 1) == .bury)
        #expect(JobDisposition.of(Refusal(.upstreamTimeout, ""), attempt: 6, limit: 5, jitter: 1) == .bury)
    }

    @Test("what could not be tried does not count, even at the last attempt")
    func untried() {
        for code in [
            FailureCode.noHealthyWorker, .overloaded, .meteringUnavailable, .storageUnavailable, .balanceExhausted,
            .tenantSuspended,
        ] {
            #expect(
                JobDisposition.of(Refusal(code, ""), attempt: 5, limit: 5, jitter: 1_000)
                    == .giveBack(afterMilliseconds: 1_000))
        }
    }

    @Test("what could not be tried waits longer each time, up to a tenth of the longest pause")
    func untriedPauses() {
        func pause(_ attempt: Int32) -> JobDisposition {
            JobDisposition.of(Refusal(.overloaded, ""), attempt: attempt, limit: 5, jitter: 15_999)
        }
        #expect(pause(1) == .giveBack(afterMilliseconds: 15_999 % 1_001))
        #expect(pause(3) == .giveBack(afterMilliseconds: 15_999 % 4_001))
        #expect(pause(5) == .giveBack(afterMilliseconds: 15_999))
        for number in Int32(6)...60 {
            #expect(JobBackoff().milliseconds(afterUntriedAttempt: number, jitter: 30_000) == 30_000)
            #expect(JobBackoff().milliseconds(afterUntriedAttempt: number, jitter: 30_001) == 0)
        }
    }

    @Test("a worker that had the job before none could be reached counts, with pauses that quadruple")
    func suspect() {
        var refusal = Refusal(.noHealthyWorker, "")
        refusal.mayHaveRun = true
        for (number, ceiling) in [(Int32(1), Int64(2_000)), (2, 8_000), (3, 32_000), (4, 128_000)] {
            #expect(
                JobDisposition.of(refusal, attempt: number, limit: 5, jitter: UInt64(ceiling))
                    == .retry(afterMilliseconds: ceiling))
            #expect(JobBackoff().ceilingMilliseconds(afterSuspectAttempt: number) == ceiling)
        }
        #expect(JobDisposition.of(refusal, attempt: 5, limit: 5, jitter: 1) == .bury)
        #expect(JobBackoff().ceilingMilliseconds(afterSuspectAttempt: .max) == 300_000)
    }

    @Test("a quota that others hold is not exhausted: the job comes back")
    func heldQuota() {
        let quota = Quota(
            id: QuotaID(high: 1, low: 1), unit: .requests, frequency: .day, amount: 10, mode: .hard)
        let period = PeriodCalendar.utc.period(containing: Timestamp(microsecondsSince1970: 0), frequency: .day)
        func refusal(settled: Int64, held: Int64) -> Refusal {
            Refusal(
                .quotaExceeded, "",
                quota: QuotaRefusal(quota: quota, period: period, settled: settled, held: held, requested: 1))
        }
        #expect(
            JobDisposition.of(refusal(settled: 9, held: 1), attempt: 5, limit: 5, jitter: 7)
                == .giveBack(afterMilliseconds: 7))
        #expect(JobDisposition.of(refusal(settled: 10, held: 0), attempt: 1, limit: 5, jitter: 7) == .fail)
        #expect(JobDisposition.of(refusal(settled: 10, held: 5), attempt: 1, limit: 5, jitter: 7) == .fail)
    }

    @Test("what another attempt would not change fails at once")
    func final() {
        for code in [
            FailureCode.quotaExceeded, .invalidAPIKey, .modelNotFound, .modelNotAllowed,
            .validationFailed, .requestTooLarge,
        ] {
            #expect(JobDisposition.of(Refusal(code, ""), attempt: 1, limit: 5, jitter: 1) == .fail, "\(code)")
        }
    }
}
