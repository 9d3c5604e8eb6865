/// What has become of a job. Its texts are those of `requests.status` and of the API.
public enum JobState: String, Sendable, CaseIterable {
    /// Waits for its turn, or for the instant of its next attempt.
    case queued
    /// An attempt runs.
    case processing
    case completed
    case failed
    case cancelled
    /// Its deadline passed before an attempt ended it.
    case expired

    /// Nothing more happens to it, but for an operator who gives a dead job another chance.
    public var isEnded: Bool {
        switch self {
        case .queued, .processing: false
        case .completed, .failed, .cancelled, .expired: true
        }
    }

    /// The states that can follow.
    public var successors: Set<JobState> {
        switch self {
        case .queued: [.processing, .cancelled, .expired]
        case .processing: [.queued, .completed, .failed, .cancelled, .expired]
        // Only a dead one, by an operator.
        case .failed: [.queued]
        case .completed, .cancelled, .expired: []
        }
    }
}

extension Entity {
    public enum Batch {}
}

/// Jobs that came together.
public typealias BatchID = Identifier<Entity.Batch>

/// One attempt of a job: the fence. Whoever claims the job after this attempt does it under a higher number, and what this one says is refused.
public struct JobAttempt: Hashable, Sendable {
    public let jobID: RequestID
    /// From 1 on; counted before the attempt runs.
    public let number: Int32

    public init(jobID: RequestID, number: Int32) {
        self.jobID = jobID
        self.number = number
    }
}
