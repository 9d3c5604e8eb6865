/// What becomes of a job whose attempt has failed or was given up.
public enum JobDisposition: Sendable, Equatable {
    /// Another attempt will be made, not before the pause is over.
    case retry(afterMilliseconds: Int64)
    /// Nothing was tried: the attempt does not count, and the job is ready again after the pause.
    case giveBack(afterMilliseconds: Int64)
    /// Another attempt would end alike.
    case fail
    /// The attempts are used up. The job is kept for an operator to look at.
    case bury

    /// Decides over an attempt that was refused.
    ///
    /// - Parameters:
    ///   - refusal: why the pipeline refused the attempt.
    ///   - jitter: a random number; the pause is drawn with it, so that jobs that failed together do not come back together.
    public static func of(
        _ refusal: Refusal, attempt: Int32, limit: Int32, backoff: JobBackoff = JobBackoff(), jitter: UInt64
    ) -> JobDisposition {
        switch refusal.jobVerdict {
        case .untried:
            return .giveBack(afterMilliseconds: backoff.milliseconds(afterUntriedAttempt: attempt, jitter: jitter))
        case .final: return .fail
        case .transient:
            guard attempt < limit else { return .bury }
            return .retry(afterMilliseconds: backoff.milliseconds(afterAttempt: attempt, jitter: jitter))
        case .suspect:
            guard attempt < limit else { return .bury }
            return .retry(afterMilliseconds: backoff.milliseconds(afterSuspectAttempt: attempt, jitter: jitter))
        }
    }
}

/// The pause before the next attempt: exponential with full jitter, anything from nothing to a ceiling that doubles each time.
public struct JobBackoff: Sendable, Equatable {
    public var baseMilliseconds: Int64
    public var limitMilliseconds: Int64

    public init(baseMilliseconds: Int64 = 1_000, limitMilliseconds: Int64 = 300_000) {
        self.baseMilliseconds = baseMilliseconds
        self.limitMilliseconds = limitMilliseconds
    }

    /// The ceiling after so many attempts.
    public func ceilingMilliseconds(afterAttempt attempt: Int32) -> Int64 {
        let doublings = Int64(max(0, min(attempt - 1, 40)))
        let (product, overflow) = baseMilliseconds.multipliedReportingOverflow(by: 1 << doublings)
        return overflow ? limitMilliseconds : min(product, limitMilliseconds)
    }

    /// The ceiling of a job that may be the reason why a worker or a process went away, or may only have run beside it: it quadruples. So suspects
    /// come back apart from each other, and there is time for what went away to come back. `recover_jobs` computes the same.
    public func ceilingMilliseconds(afterSuspectAttempt attempt: Int32) -> Int64 {
        ceilingMilliseconds(afterAttempt: max(1, min(attempt, 20)) * 2)
    }

    public func milliseconds(afterAttempt attempt: Int32, jitter: UInt64) -> Int64 {
        Self.draw(ceilingMilliseconds(afterAttempt: attempt), jitter)
    }

    public func milliseconds(afterSuspectAttempt attempt: Int32, jitter: UInt64) -> Int64 {
        Self.draw(ceilingMilliseconds(afterSuspectAttempt: attempt), jitter)
    }

    /// What was not tried waits for something of ours, which is mostly there again soon: a tenth of the limit is the most.
    public func milliseconds(afterUntriedAttempt attempt: Int32, jitter: UInt64) -> Int64 {
        Self.draw(
            min(ceilingMilliseconds(afterAttempt: attempt), max(baseMilliseconds, limitMilliseconds / 10)), jitter)
    }

    private static func draw(_ ceiling: Int64, _ jitter: UInt64) -> Int64 {
        Int64(jitter % UInt64(max(0, ceiling) + 1))
    }
}

/// What a failure says about the next attempt.
enum JobVerdict {
    /// May go away by itself; the attempt counts.
    case transient
    /// A worker had the job, and none could be reached then. The job may be why; the attempt counts.
    case suspect
    /// No worker was asked, because something of ours or of the model's was not there or was full. The job's deadline bounds how often.
    case untried
    case final
}

extension Refusal {
    var jobVerdict: JobVerdict {
        // What is missing is not used but held, by a gateway that may give it back at any moment: the quota is not exhausted yet.
        if code == .quotaExceeded, let quota, quota.held > 0, quota.settled + quota.requested <= quota.quota.amount {
            return .untried
        }
        let verdict = code.jobVerdict
        return verdict == .untried && mayHaveRun ? .suspect : verdict
    }
}

extension FailureCode {
    /// Codes of workers that tried are transient, codes of what was not there to try it are untried, and whatever the caller did is final.
    /// An account that is suspended or used up waits for its operator or a top-up, until the job's deadline.
    var jobVerdict: JobVerdict {
        switch self {
        case .badUpstream, .upstreamTimeout, .internalError: .transient
        case .noHealthyWorker, .meteringUnavailable, .storageUnavailable, .overloaded, .rateLimited,
            .idempotencyInProgress, .balanceExhausted, .tenantSuspended:
            .untried
        default: .final
        }
    }
}
