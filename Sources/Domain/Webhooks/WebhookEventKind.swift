/// What a webhook can be told of. The texts are part of the API and never change their meaning.
public enum WebhookEventKind: String, Sendable, CaseIterable {
    case jobCompleted = "job.completed"
    case jobFailed = "job.failed"
    case jobCancelled = "job.cancelled"
    case jobExpired = "job.expired"
    case batchCompleted = "batch.completed"
    case batchFailed = "batch.failed"
    case batchCancelled = "batch.cancelled"
    case batchExpired = "batch.expired"
    case quotaThreshold = "quota.threshold"
}
