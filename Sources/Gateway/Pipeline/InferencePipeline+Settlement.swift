internal import Domain
internal import HTTPListener
internal import Logging
internal import NIOCore

/// The stage that makes a request's charge durable: nothing leaves before it has returned.
extension InferencePipeline {
    /// Writes request, ledger entry and result, and returns when they are committed.
    ///
    /// - Returns: the numbers of the headers that show limits.
    ///
    /// A lease that was lost meanwhile is asked for anew once: the work is done, and if quota is still there, it can be charged.
    @discardableResult
    func settle(
        _ work: HeldRequest, _ served: Served, answer: ClaimedAnswer?, job: JobCompletion? = nil, on loop: LoopContext
    ) async throws(Refusal) -> [LimitReading] {
        try await settle(work, served, failure: nil, answer: answer, job: job, on: loop)
    }

    /// - Parameters:
    ///   - served: `nil` of a request that failed and is charged.
    ///   - failure: what it failed with.
    private func settle(
        _ work: HeldRequest, _ served: Served?, failure: FailureCode?, answer: ClaimedAnswer?, job: JobCompletion?,
        on loop: LoopContext
    ) async throws(Refusal) -> [LimitReading] {
        let usage = served?.usage ?? .none
        let requests = served?.requests ?? 1
        var hold = work.hold
        var attempt = 0
        while true {
            attempt += 1
            let record = settlement(
                of: work, hold: hold, usage: usage, requests: requests,
                version: served?.version ?? work.route.profile.version, served: served, failure: failure,
                answer: answer, job: job)
            switch await submit(record, on: loop) {
            case .committed:
                let limits = settleHold(work, hold, usage, requests: requests)
                pass(.answered)
                return limits
            case .leaseLost:
                if let hold { quota.lost(hold, of: work.principal.tenantID) }
                do throws(Refusal) {
                    guard attempt == 1 else { throw .storeAway(cause: "lease lost twice") }
                    hold = try await quota.hold(tokens: usage.totalTokens, for: work.principal) {
                        LeaseID(work.call.requestID, on: loop, at: time.now)
                    }
                } catch {
                    // The worker did the work: that it was not charged for has to be seen somewhere.
                    await recordFailure(error, of: work, on: loop)
                    throw error
                }
            case .claimLost:
                // This gateway slept past its claim. Nothing is charged here; the answer is the other attempt's.
                if let hold { quota.void(hold, of: work.principal.tenantID) }
                throw .keyInFlight
            case .jobLost:
                // Another attempt has the job, or it was cancelled. What was done for it is discarded.
                if let hold { quota.void(hold, of: work.principal.tenantID) }
                var refusal = Refusal(.conflict, "The job was ended or claimed by another attempt.")
                refusal.isSuperseded = true
                throw refusal
            case .rejected:
                if let hold { quota.void(hold, of: work.principal.tenantID) }
                throw Refusal(
                    .internalError, "The usage could not be recorded. Nothing was charged.",
                    cause: "settlement rejected")
            case .unavailable, .overloaded:
                if let hold { quota.void(hold, of: work.principal.tenantID) }
                throw .storeAway(cause: "settlement unavailable")
            case .unknown:
                if let hold { quota.settle(hold, usedTokens: hold.tokens, of: work.principal.tenantID) }
                var refusal = Refusal.storeAway(cause: "settlement of unknown outcome")
                refusal.isOutcomeUnknown = true
                throw refusal
            }
        }
    }

    /// What becomes of a request that no worker has answered: what it held is free again and it costs nothing, unless its tier charges for
    /// an input that a worker refused. Then it is settled as an answer is, before the refusal leaves.
    ///
    /// - Returns: what the caller is told.
    func settleFailure(_ refusal: Refusal, of work: HeldRequest, on loop: LoopContext) async -> Refusal {
        guard let charged = await charged(refusal, work) else {
            if let hold = work.hold { quota.void(hold, of: work.principal.tenantID) }
            // Nothing was asked of a worker, and the caller wanted it so.
            if refusal.code != .notCached {
                await recordFailure(refusal, of: work, on: loop)
                note(failureOf: work)
            }
            return refusal
        }
        note(failureOf: work)
        do throws(Refusal) {
            _ = try await settle(
                work, nil, failure: charged.code, answer: work.claim.map { Self.answer(charged, to: work, of: $0) },
                job: nil, on: loop)
            return charged
        } catch {
            return error
        }
    }

    /// The refusal as it is told of a request that is charged; `nil` where it is free. What cannot be known is free: a job that fails is
    /// written by its queue, which charges nothing, and that the prices could not be read is no fault of the caller's.
    private func charged(_ refusal: Refusal, _ work: HeldRequest) async -> Refusal? {
        guard refusal.isRefusedInput, work.call.attempt == nil, let sheet = await sheet(of: work),
            sheet.requestTerms.failure == .charged
        else { return nil }
        return refusal.charged(
            FailureCharge(
                model: work.request.model, tierVersionID: sheet.tierVersionID,
                cost: sheet.amount(requests: 1, usage: .none, model: work.route.model).rounded,
                currency: sheet.currency))
    }

    /// A failed call that is free leaves a request row and no ledger entry. That the row could not be written must not hide the failure itself.
    ///
    /// A job has its row, and who runs it decides what becomes of it.
    func recordFailure(_ refusal: Refusal, of work: HeldRequest, on loop: LoopContext) async {
        guard work.call.attempt == nil else { return }
        #if WEIR_FAULTS
            let failure: FailureCode? = faults.mutant == .billFailed ? nil : refusal.code
        #else
            let failure: FailureCode? = refusal.code
        #endif
        let record = settlement(
            of: work, hold: nil, usage: .none, requests: nil, version: work.route.profile.version, served: nil,
            failure: failure)
        let result = await submit(record, on: loop)
        if result != .committed {
            logger.warning(
                "a failed request was not recorded",
                metadata: ["request_id": "\(work.call.requestID.publicText)", "result": "\(result)"])
        }
    }

    private func submit(_ record: Settlement, on loop: LoopContext) async -> SettlementResult {
        #if WEIR_FAULTS
            if faults.mutant == .answerBeforeCommit {
                settler.submit(record, on: loop) { _ in }
                return .committed
            }
        #endif
        return await withSettlementContinuation { continuation in
            settler.submit(record, on: loop) { continuation.resume(returning: $0) }
        }
    }

    private func settlement(
        of work: HeldRequest, hold: Hold?, usage: Usage, requests: Int64?, version: String, served: Served?,
        failure: FailureCode?, answer: ClaimedAnswer? = nil, job: JobCompletion? = nil
    ) -> Settlement {
        let completedAt = time.now
        let policy = keys.strictest(work.principal, presenting: work.call.credentials)
        let kept = KeptParts(
            under: policy, prompt: work.call.body.readableBytesView, text: { work.request.retained(work.call.body) },
            mediaType: served?.reading.mediaType
        ) {
            // Of a stream that was longer than is remembered of one there is nothing.
            guard let reading = served?.reading, reading.prediction.readableBytes > 0 || served?.stream == nil else {
                return nil
            }
            return AnswerBody.result(reading, on: work.request.surface)
        }
        return Settlement(
            requestID: work.call.requestID, tenantID: work.principal.tenantID, userID: work.principal.userID,
            keyID: work.principal.keyID, model: work.route.model, modelVersion: version,
            outcome: failure == nil ? .completed : .failed,
            // Under an idempotency key it is sent again as it was.
            httpStatus: Int16(
                failure.map { requests == nil ? $0.httpStatus : work.call.target.surface.dialect.status(of: $0) } ?? 200
            ),
            errorCode: failure?.rawValue, createdAt: work.call.receivedAt,
            completedAt: max(completedAt, work.call.receivedAt),
            processingMicroseconds: Int64((time.monotonicNanoseconds &- work.call.receivedNanoseconds) / 1_000),
            estimatedTokens: work.bound, usage: usage, tierVersionID: work.tierVersionID,
            leaseID: hold?.leaseID,
            prompt: kept.prompt, promptDigest: kept.promptDigest, result: kept.result, answer: answer,
            servedUsage: served?.servedUsage, resultDigest: kept.resultDigest, resultID: kept.resultID,
            resultMediaType: kept.resultMediaType, retentionGeneration: policy.retentionGeneration,
            operation: work.request.surface.operation, stream: served?.stream, job: job,
            tags: work.tags, receipt: failure == nil ? work.receipt : nil,
            chargedRequests: requests)
    }
}

#if DEBUG
    /// Checked where tests run, so that a settlement that is never or twice answered is reported there.
    private func withSettlementContinuation(
        _ body: (CheckedContinuation<SettlementResult, Never>) -> Void
    ) async -> SettlementResult { await withCheckedContinuation(body) }
#else
    /// Saves an allocation for every request.
    private func withSettlementContinuation(
        _ body: (UnsafeContinuation<SettlementResult, Never>) -> Void
    ) async -> SettlementResult { await withUnsafeContinuation(body) }
#endif
