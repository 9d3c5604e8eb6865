internal import Domain
internal import HTTPListener
internal import NIOCore

/// The pipeline of a request whose answer is fetched later: all that can be refused is refused now, nothing is held, and the rest of the
/// stages run when a dispatcher has claimed the job.
extension InferencePipeline {
    func submit(_ arrived: InferenceCall, for principal: Principal, on loop: LoopContext) async -> InferenceOutcome {
        var call = arrived
        var claim: IdempotencyClaim?
        do throws(Refusal) {
            guard let desk = jobs else {
                throw Refusal(.notFound, "This server takes no jobs. Leave Prefer: respond-async out.")
            }
            if call.target.isSurfaceInBody { call.target.surface = try Surface(told: call.body) }
            _ = try call.receipt.form(where: .none)
            let schedule = try call.jobFields.schedule(at: call.receivedAt)
            let request = try Self.validate(call.body, for: principal, target: call.target, routes: routes)
            guard !request.isStreaming else {
                throw .invalid("/stream", "cannot be true of a job", fix: "Leave it out; the answer is fetched whole.")
            }
            guard call.target.jsonByteCount == nil, !request.isInBinaryForm else { throw .binaryLater }
            if !call.cacheFields.isEmpty { _ = try CacheInstruction(call.cacheFields) }
            if !call.tagFields.isEmpty { call.tagFields = [try RequestTags(fields: call.tagFields).text] }
            let head = try JobHead.text(call)
            if !call.idempotencyFields.isEmpty {
                switch try await self.claim(call, request, principal) {
                case .claimed(let made): claim = made
                case .answered(let answer): return .replayed(answer, limits: quota.readings(for: principal))
                }
            }
            let route = try Self.route(of: request, for: principal, in: routes.current.table)
            try await desk.admit(principal.tenantID)
            let bound = Self.tokenBound(request, route.profile)
            try await charge(bound, request, principal, call, on: loop)
            let submission = JobSubmission(
                jobID: call.requestID, tenantID: principal.tenantID, userID: principal.userID, keyID: principal.keyID,
                operation: call.target.surface.operation, model: route.model, pathModel: call.target.model,
                pathVersion: call.target.version, payload: Array(call.body.readableBytesView), headFields: head,
                schedule: schedule, estimatedTokens: bound, createdAt: call.receivedAt,
                answer: claim.map { AcceptedJob.answer(call, of: $0) })
            try Self.check(await desk.submitter.submit([submission]).first)
            if let claim { claims.end(claim) }
            return .queued(
                AcceptedJob(
                    requestID: call.requestID, limits: limits(of: principal),
                    isPreferenceApplied: call.target.isAsyncPreferred))
        } catch {
            if let claim { await claims.giveUp(claim, after: error) }
            return .refused(error, call.requestID)
        }
    }

    /// Takes of the rate limits what the job can use at most, for good, and looks whether the quotas have room for it now. Nothing of a
    /// quota stays held: a job may wait for long.
    private func charge(
        _ bound: Int64, _ request: InferenceRequest, _ principal: Principal, _ call: InferenceCall, on loop: LoopContext
    ) async throws(Refusal) {
        let (take, hold) = try await admit(bound, request, principal, call, on: loop)
        if let hold { quota.void(hold, of: principal.tenantID) }
        if let take { rates.settle(take, usedTokens: bound, for: principal) }
    }

    private static func check(_ result: SubmissionResult?) throws(Refusal) {
        switch result {
        case .queued: return
        case .claimLost: throw .keyInFlight
        case .rejected:
            throw Refusal(
                .internalError, "The job could not be queued. Nothing was charged.", cause: "submission rejected")
        case .overloaded:
            throw Refusal(
                .overloaded, "Too many jobs are being queued at this moment. Try again in a second.",
                retryAfterSeconds: 1)
        case .unavailable(let isUnknown):
            var refusal = Refusal.storeAway(cause: "submission unavailable")
            refusal.isOutcomeUnknown = isUnknown
            throw refusal
        case nil: throw Refusal(.internalError, "Something failed on our side.", cause: "submission without a result")
        }
    }

    /// What ends a job, for a request that is one.
    static func completion(of work: HeldRequest, _ prediction: Prediction) -> JobCompletion? {
        guard let attempt = work.call.attempt else { return nil }
        var body = ByteBuffer()
        AnswerBody.write(prediction.asJSON, to: &body)
        return JobCompletion(attempt: attempt, answer: Array(body.readableBytesView))
    }
}

extension Refusal {
    /// A job is kept and answered as JSON.
    fileprivate static let binaryLater = Refusal.invalid(
        "Prefer", "cannot be respond-async for tensors in binary form",
        fix: "Send and ask for them as JSON, or wait for the answer.")
}

extension Prediction {
    /// The same answer where one that is no JSON cannot be sent as it is: `{"media_type", "base64"}` in the place of the prediction.
    fileprivate var asJSON: Prediction {
        guard let mediaType else { return self }
        var document = ByteBuffer(staticString: "{\"media_type\":")
        document.writeJSONString(mediaType)
        document.writeStaticString(",\"base64\":\"")
        document.writeBase64(prediction.readableBytesView)
        document.writeStaticString("\"}")
        return Prediction(
            requestID: requestID, surface: surface, model: model, version: version, prediction: document,
            probabilities: nil, usage: usage, cost: cost, currency: currency, priceVersion: priceVersion,
            limits: limits,
            degradations: degradations, timings: timings, cache: cache)
    }
}
