internal import Domain
internal import LedgerProof
internal import Logging
internal import Metrics
internal import NIOCore

/// How a stream is settled, and what the last of it is.
extension InferencePipeline {
    private static let streamEnds: [StreamEnd: Counter] = Dictionary(
        uniqueKeysWithValues: StreamEnd.allCases.map {
            ($0, Counter(label: "weir_streams_total", dimensions: [("end", $0.rawValue)]))
        })

    /// Charges what the policy says, then sends the last events.
    /// - Returns: tokens that were charged.
    func settleStream(
        _ ended: StreamRun, _ outcome: StreamOutcome, _ work: HeldRequest, _ outlet: StreamOutlet, on loop: LoopContext
    ) async throws(Refusal) -> Int64 {
        var run = ended
        let tally = StreamTally(
            profile: work.route.profile, reported: run.relay.reported,
            deliveredTokens: outcome.end == .finished ? run.relay.generatedTokens : outlet.deliveredTokens,
            generatedTokens: run.relay.generatedTokens, promptBytes: work.request.textByteCount,
            deliveredTextBytes: outcome.end == .finished ? run.relay.textBytes : outlet.deliveredTextBytes,
            inputCount: work.request.rowCount)
        guard outcome.end == .finished || outlet.hasBegun && tally.deliveredTokens > 0 else {
            return try await fail(outcome, work, outlet, on: loop)
        }
        if outcome.end == .finished, !outlet.hasBegun {
            // A whole answer without a token, as of a model that has nothing to say.
            begin(outlet, work, StageTimings(), on: loop)
            keep(run.held, &run)
            outlet.send(run.held, tokens: 0, textBytes: 0)
        }
        let usage = charged(tally, outcome, run, work)
        let sheet = await sheet(of: work)
        var tail = tail(of: run, outcome, usage, sheet, work)
        let record = StreamRecord(
            end: outcome.end, deliveredTokens: tally.deliveredTokens, generatedTokens: tally.generatedTokens)
        let served = Served(
            reading: WorkerReading(
                prediction: run.relay.wholeAnswer(usage) ?? ByteBuffer(), probabilities: nil, version: nil,
                inputTokens: nil, cachedInputTokens: nil, outputTokens: nil),
            usage: usage, version: work.route.profile.version, stream: record)
        do throws(Refusal) {
            try await settle(work, served, answer: kept(run, tail, usage, sheet, work), on: loop)
        } catch {
            // The caller has most of its answer and cannot be told by a status any more.
            if error.isOutcomeUnknown { outlet.close() } else { outlet.finish(Self.event(of: error, to: work)) }
            if let claim = work.claim { await claims.giveUp(claim, after: error) }
            logFailure(error, of: work)
            return 0
        }
        if work.receipt?.text != nil { tail = self.tail(of: run, outcome, usage, sheet, work) }
        Self.streamEnds[outcome.end]?.increment()
        if let cause = outcome.cause {
            logger.warning(
                "a stream was cut",
                metadata: [
                    "request_id": "\(work.call.requestID.publicText)", "end": "\(outcome.end)", "cause": "\(cause)",
                ])
        }
        if outcome.end == .clientLeft { outlet.close() } else { outlet.finish(tail) }
        let now = time.monotonicNanoseconds
        RequestMetrics.answered(work.request.surface, nanoseconds: now &- work.call.receivedNanoseconds)
        note(
            served, of: work,
            StageTimings(
                quota: work.heldAtNanoseconds &- work.call.receivedNanoseconds, upstream: now &- work.heldAtNanoseconds)
        )
        return usage.totalTokens
    }

    private func charged(
        _ tally: StreamTally, _ outcome: StreamOutcome, _ run: StreamRun, _ work: HeldRequest
    ) -> Usage {
        let counted = tally.usage(end: outcome.end, leave: run.leave)
        let (usage, wasClamped) = counted.clamped(toTokens: work.bound)
        estimates.observe(usage, of: work.route.model, requestBytes: work.request.byteCount)
        if wasClamped || outcome.end == .cutAtBound {
            Self.clamped.increment()
            logger.error(
                "a worker reported more usage than can be",
                metadata: [
                    "model": "\(work.route.model)", "request_id": "\(work.call.requestID.publicText)",
                    "bound": "\(work.bound)",
                ])
        }
        return usage
    }

    /// Nothing was delivered: nothing is charged.
    private func fail(
        _ outcome: StreamOutcome, _ work: HeldRequest, _ outlet: StreamOutlet, on loop: LoopContext
    ) async throws(Refusal) -> Int64 {
        if let hold = work.hold { quota.void(hold, of: work.principal.tenantID) }
        let refusal = Self.refusal(of: outcome)
        await recordFailure(refusal, of: work, on: loop)
        note(failureOf: work)
        guard outlet.hasBegun else { throw refusal }
        if let claim = work.claim { await claims.giveUp(claim, after: refusal) }
        outlet.finish(Self.event(of: refusal, to: work))
        logFailure(refusal, of: work)
        return 0
    }

    private static func refusal(of outcome: StreamOutcome) -> Refusal {
        switch outcome.end {
        case .clientLeft: .clientLeft
        case .stopping: .stopping
        case .deadline:
            Refusal(
                .upstreamTimeout, "The model's worker did not go on with its answer in time.", cause: outcome.cause)
        case .finished, .workerFailed, .cutAtBound:
            Refusal(
                .badUpstream, "The model's worker gave an answer that cannot be used.", cause: outcome.cause)
        }
    }

    /// The last events of a stream, by the way it ended.
    private func tail(
        of run: StreamRun, _ outcome: StreamOutcome, _ usage: Usage, _ sheet: PriceSheet?, _ work: HeldRequest
    ) -> ByteBuffer {
        var tail = ByteBuffer()
        switch outcome.end {
        // Nobody is there; whoever comes back with the key is told that this is not all, unless it is.
        case .clientLeft where run.leave != .drain || run.relay.end != .finished:
            tail = Self.event(of: .clientLeft, to: work)
        case .finished, .cutAtBound, .clientLeft:
            if outcome.end == .cutAtBound { tail.writeString(run.relay.cutEvent()) }
            if case .openAI(let request) = work.request, request.includesUsage {
                tail.writeString(
                    run.relay.usageEvent(
                        usage, cost: sheet?.amount(requests: 1, usage: usage, model: work.route.model).rounded,
                        currency: sheet?.currency ?? "", priceVersion: sheet?.versionText ?? "",
                        receipt: work.receipt?.text))
            }
            if work.request.surface.dialect == .openAI { tail.writeStaticString("data: [DONE]\n\n") }
        case .workerFailed, .deadline, .stopping: tail = Self.event(of: Self.refusal(of: outcome), to: work)
        }
        return tail
    }

    /// What went wrong, as an event; no `[DONE]` follows it.
    private static func event(of refusal: Refusal, to work: HeldRequest) -> ByteBuffer {
        var event = ByteBuffer(staticString: "data: ")
        event.writeImmutableBuffer(AnswerHead.eventBody(refusal, in: work.request.surface.dialect))
        event.writeStaticString("\n\n")
        return event
    }

    private func kept(
        _ run: StreamRun, _ tail: ByteBuffer, _ usage: Usage, _ sheet: PriceSheet?, _ work: HeldRequest
    ) -> ClaimedAnswer? {
        guard let claim = work.claim, var body = run.kept else { return nil }
        body.writeImmutableBuffer(tail)
        var fields = ByteBuffer()
        fields.writeStaticString("content-type: text/event-stream; charset=utf-8\r\n")
        fields.writeStaticString("x-weir-model: ")
        fields.writeString(work.request.model)
        return ClaimedAnswer(
            claim: claim, fields: Array(fields.readableBytesView), body: Array(body.readableBytesView))
    }

    private func logFailure(_ refusal: Refusal, of work: HeldRequest) {
        RequestMetrics.refused(refusal.code, route: work.request.surface.operation)
        logger.warning(
            "request failed",
            metadata: [
                "request_id": "\(work.call.requestID.publicText)", "code": "\(refusal.code.rawValue)",
                "cause": "\(refusal.cause ?? "")",
            ])
    }
}
