internal import Domain
internal import Logging
internal import Metrics
internal import NIOCore

/// The stages behind the hold for an answer that is sent piece by piece. It is settled once, however it ends, and the last of it leaves after
/// the commit.
extension InferencePipeline {
    /// How a stream that had begun came to its end.
    struct StreamOutcome {
        var end: StreamEnd
        /// For the log, where the worker is at fault.
        var cause: String?
    }

    private static let streamTimings = Timer(label: "weir_time_to_first_piece_seconds")
    private static let streamEnds: [StreamEnd: Counter] = Dictionary(
        uniqueKeysWithValues: StreamEnd.allCases.map {
            ($0, Counter(label: "weir_streams_total", dimensions: [("end", $0.rawValue)]))
        })
    /// Without a word for so long, the caller is sent a comment, so that nothing between us takes the connection for dead.
    private static let heartbeatNanoseconds: UInt64 = 15_000_000_000
    /// A caller that takes nothing for so long has left.
    private static let stallNanoseconds: UInt64 = 30_000_000_000
    /// Of what is kept for a caller that sends its request again.
    private static let keptByteLimit = 8_388_608

    /// - Throws: what is told to a caller that was sent nothing yet; nothing is charged then.
    func stream(
        _ work: HeldRequest, timings: StageTimings, to caller: NIOLoopBound<ReadyRequest>, on loop: LoopContext
    ) async throws(Refusal) {
        let outlet = caller.value.handler.openStream(for: caller.value)
        var usedTokens: Int64 = 0
        defer { if let take = work.take { rates.settle(take, usedTokens: usedTokens, for: work.principal) } }
        let open: OpenStream
        do throws(Refusal) {
            guard case .openAI(let request) = work.request else { throw .notStreamed }
            pass(.workerCalled)
            open = try await dispatch.openStream(
                work.request, route: work.route, call: work.call, startedAt: work.heldAtNanoseconds,
                on: loop.eventLoop, mailbox: outlet.mailbox)
            let relay = StreamRelay(
                request, outputBound: request.outputBound(work.route.profile),
                keepsText: work.principal.retention == .full)
            let leave = await leavePolicy(of: work)
            var run = StreamRun(relay: relay, leave: leave, kept: work.claim == nil ? nil : ByteBuffer())
            let outcome = await relayPieces(of: open, to: outlet, &run, work, timings, on: loop)
            if outcome.end != .clientLeft { await outlet.awaitWrites(stallNanoseconds: Self.stallNanoseconds) }
            let isFault = outcome.end == .workerFailed || outcome.end == .deadline
            dispatch.end(open, isFault: isFault)
            usedTokens = try await settleStream(run, outcome, work, outlet, on: loop)
        } catch {
            if !outlet.hasBegun { outlet.withdraw() }
            throw error
        }
    }

    /// What is known of a stream while it runs.
    struct StreamRun {
        var relay: StreamRelay
        let leave: StreamLeave
        /// What was sent, for a caller that may ask for it again.
        var kept: ByteBuffer?
        /// Events are held back until the first of them counts as something: until then the request can still fail as any other.
        var held = ByteBuffer()
        var isOverfull = false
    }

    /// The tier's word counts before the model's. That neither could be read is no reason to charge more.
    private func leavePolicy(of work: HeldRequest) async -> StreamLeave {
        let model = (work.route.candidates.first?.runtime as? ReplicaState)?.model.policy.streamLeave
        return await sheet(of: work)?.streamLeave ?? model ?? .cancel
    }

    // MARK: relay

    /// Passes the worker's events on until the stream is over, in whatever way.
    private func relayPieces(
        of open: OpenStream, to outlet: StreamOutlet, _ run: inout StreamRun, _ work: HeldRequest,
        _ timings: StageTimings, on loop: LoopContext
    ) async -> StreamOutcome {
        var next = StreamEvent.piece(open.first)
        var isDraining = false
        while true {
            switch next {
            case .piece(let bytes):
                let step = run.relay.take(bytes)
                if !isDraining { pass(step, to: outlet, &run, work, timings, on: loop) }
                if run.isOverfull {
                    open.handle.cancel()
                    return StreamOutcome(end: .workerFailed, cause: "more than can be kept under an idempotency key")
                }
                if let end = step.end {
                    if end != .finished { open.handle.cancel() }
                    return Self.outcome(of: end, isDraining)
                }
                if !outlet.isWritable, !isDraining, !outlet.isGone { open.handle.setReading(false) }
            case .workerEnded(let failure):
                // Whole without its last word: nothing says that this was all.
                return Self.outcome(ofFailure: failure, isDraining)
            case .clientLeft:
                guard run.leave == .drain, outlet.hasBegun else {
                    open.handle.cancel()
                    return StreamOutcome(end: .clientLeft)
                }
                isDraining = true
                open.handle.setReading(true)
            case .writable: open.handle.setReading(true)
            case .tick:
                guard !isDraining, outlet.hasBegun else { break }
                let silence = time.monotonicNanoseconds &- outlet.writtenAtNanoseconds
                if outlet.isWritable, silence >= Self.heartbeatNanoseconds {
                    outlet.send(ByteBuffer(staticString: ": ping\n\n"), tokens: 0)
                } else if !outlet.isWritable, silence >= Self.stallNanoseconds {
                    outlet.clientLeft()
                }
            case .stopping:
                open.handle.cancel()
                return StreamOutcome(end: .stopping)
            case .opened: break
            }
            next = await outlet.mailbox.next()
        }
    }

    private static func outcome(of end: StreamRelay.End, _ isDraining: Bool) -> StreamOutcome {
        switch end {
        case .finished: StreamOutcome(end: isDraining ? .clientLeft : .finished)
        case .cutAtBound: StreamOutcome(end: isDraining ? .clientLeft : .cutAtBound)
        case .failed(let cause): StreamOutcome(end: isDraining ? .clientLeft : .workerFailed, cause: cause)
        }
    }

    private static func outcome(ofFailure failure: BackendFailure?, _ isDraining: Bool) -> StreamOutcome {
        if isDraining { return StreamOutcome(end: .clientLeft) }
        switch failure {
        case .timeout(let cause): return StreamOutcome(end: .deadline, cause: cause)
        case .unreachable(let cause), .badAnswer(let cause), .unusableAnswer(let cause):
            return StreamOutcome(end: .workerFailed, cause: cause)
        case .overloaded, .cancelled, nil: return StreamOutcome(end: .workerFailed, cause: "ended without [DONE]")
        }
    }

    private func pass(
        _ step: StreamRelay.Step, to outlet: StreamOutlet, _ run: inout StreamRun, _ work: HeldRequest,
        _ timings: StageTimings, on loop: LoopContext
    ) {
        guard step.forward.readableBytes > 0 else { return }
        var events = step.forward
        if !outlet.hasBegun {
            // A role, or nothing: the first token decides whether there is an answer.
            run.held.writeImmutableBuffer(events)
            guard step.tokens > 0 || step.end == .finished || run.held.readableBytes > StreamRelay.eventByteLimit else {
                return
            }
            begin(outlet, work, timings, on: loop)
            events = run.held
            run.held = ByteBuffer()
        }
        keep(events, &run)
        outlet.send(events, tokens: step.tokens)
    }

    private func begin(_ outlet: StreamOutlet, _ work: HeldRequest, _ timings: StageTimings, on loop: LoopContext) {
        pass(.workerAnswered)
        let now = time.monotonicNanoseconds
        var timings = timings
        timings.upstream = now &- work.heldAtNanoseconds
        Self.streamTimings.recordNanoseconds(Int64(clamping: now &- work.call.receivedNanoseconds))
        let facts = StreamHead(
            requestID: work.call.requestID, model: work.request.model, version: work.route.profile.version,
            limits: limits(of: work), degradations: degradations(routes.current, work), timings: timings)
        outlet.begin(
            AnswerHead.stream(facts, clientID: outlet.clientID, keepsAlive: outlet.staysOpen, at: time.now, on: loop))
    }

    private func keep(_ events: ByteBuffer, _ run: inout StreamRun) {
        guard run.kept != nil else { return }
        run.kept?.writeImmutableBuffer(events)
        run.isOverfull = (run.kept?.readableBytes ?? 0) > Self.keptByteLimit
    }

    // MARK: settle, end

    /// Charges what the policy says, then sends the last events.
    /// - Returns: tokens that were charged.
    private func settleStream(
        _ run: StreamRun, _ outcome: StreamOutcome, _ work: HeldRequest, _ outlet: StreamOutlet, on loop: LoopContext
    ) async throws(Refusal) -> Int64 {
        let tally = StreamTally(
            profile: work.route.profile, reported: run.relay.reported,
            deliveredTokens: outcome.end == .finished ? run.relay.generatedTokens : outlet.deliveredTokens,
            generatedTokens: run.relay.generatedTokens, promptBytes: work.request.textByteCount,
            deliveredBytes: outlet.deliveredBytes)
        guard outcome.end == .finished || outlet.hasBegun && tally.deliveredTokens > 0 else {
            return try await fail(outcome, work, outlet, on: loop)
        }
        if outcome.end == .finished, !outlet.hasBegun {
            // A whole answer without a token, as of a model that has nothing to say.
            begin(outlet, work, StageTimings(), on: loop)
            outlet.send(run.held, tokens: 0)
        }
        let usage = charged(tally, outcome, run, work)
        let sheet = await sheet(of: work)
        let tail = tail(of: run, outcome, usage, sheet, work)
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
            if error.isOutcomeUnknown { outlet.close() } else { outlet.finish(Self.event(of: error)) }
            if let claim = work.claim { await claims.giveUp(claim, after: error) }
            logFailure(error, of: work)
            return 0
        }
        Self.streamEnds[outcome.end]?.increment()
        if let cause = outcome.cause {
            logger.warning(
                "a stream was cut",
                metadata: ["request_id": "\(work.call.requestID.publicText)", "end": "\(outcome.end)", "cause": "\(cause)"])
        }
        if outcome.end == .clientLeft { outlet.close() } else { outlet.finish(tail) }
        RequestMetrics.answered(
            work.request.surface, nanoseconds: time.monotonicNanoseconds &- work.call.receivedNanoseconds)
        return usage.totalTokens
    }

    private func charged(
        _ tally: StreamTally, _ outcome: StreamOutcome, _ run: StreamRun, _ work: HeldRequest
    ) -> Usage {
        let counted = tally.usage(end: outcome.end, leave: run.leave)
        estimates.observe(counted, of: work.route.model, requestBytes: work.request.byteCount)
        let (usage, wasClamped) = counted.clamped(toTokens: work.bound)
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
        guard outlet.hasBegun else { throw refusal }
        if let claim = work.claim { await claims.giveUp(claim, after: refusal) }
        outlet.finish(Self.event(of: refusal))
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
        case .clientLeft: return tail
        case .finished, .cutAtBound:
            if outcome.end == .cutAtBound { tail.writeString(run.relay.cutEvent()) }
            if case .openAI(let request) = work.request, request.includesUsage {
                tail.writeString(
                    run.relay.usageEvent(
                        usage, cost: sheet?.amount(requests: 1, usage: usage, model: work.route.model).rounded,
                        currency: sheet?.currency ?? "", priceVersion: sheet?.versionText ?? ""))
            }
            tail.writeStaticString("data: [DONE]\n\n")
        case .workerFailed, .deadline, .stopping: tail = Self.event(of: Self.refusal(of: outcome))
        }
        return tail
    }

    /// What went wrong, as an event; no `[DONE]` follows it.
    private static func event(of refusal: Refusal) -> ByteBuffer {
        var event = ByteBuffer(staticString: "data: ")
        event.writeImmutableBuffer(AnswerHead.openAIBody(refusal))
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
