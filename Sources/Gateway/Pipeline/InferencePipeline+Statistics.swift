internal import Domain

/// What is counted for the statistics of models, beside the books.
extension InferencePipeline {
    func note(_ served: Served, of work: HeldRequest, _ timings: StageTimings) {
        statistics.change(Self.subject(work)) {
            $0.succeed(timings, rows: work.request.rowCount, cache: served.status, at: work.call.receivedAt)
        }
    }

    func note(failureOf work: HeldRequest) {
        let nanoseconds = time.monotonicNanoseconds &- work.call.receivedNanoseconds
        statistics.change(Self.subject(work)) { $0.failed.add(nanoseconds) }
    }

    /// Under the version that was chosen, whatever the worker calls it.
    private static func subject(_ work: HeldRequest) -> InferenceStatistics.Subject {
        InferenceStatistics.Subject(
            tenantID: work.principal.tenantID, model: work.route.model, version: work.route.version)
    }
}
