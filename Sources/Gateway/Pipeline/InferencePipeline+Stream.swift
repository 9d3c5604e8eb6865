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
    /// Of what is kept for a caller that sends its request again.
    private static let keptByteLimit = 8_388_608

    /// - Throws: what is told to a caller that was sent nothing yet; nothing is charged then, but what ``settleFailure(_:of:on:)`` charges.
    func stream(
        _ work: HeldRequest, timings: StageTimings, to caller: NIOLoopBound<ReadyRequest>, on loop: LoopContext
    ) async throws(Refusal) {
        let outlet = caller.value.handler.openStream(for: caller.value)
        var usedTokens: Int64 = 0
        defer { if let take = work.take { rates.settle(take, usedTokens: usedTokens, for: work.principal) } }
        let leave = await leavePolicy(of: work)
        let open: OpenStream
        let relay: StreamRelay
        do throws(Refusal) {
            pass(.workerCalled)
            open = try await dispatch.openStream(
                work.request, route: work.route, call: work.call, startedAt: work.heldAtNanoseconds,
                on: loop.eventLoop, mailbox: outlet.mailbox)
            relay = try Self.relay(of: open, work)
        } catch {
            outlet.withdraw()
            throw await settleFailure(error, of: work, on: loop)
        }
        var run = StreamRun(relay: relay, leave: leave, kept: work.claim == nil ? nil : ByteBuffer())
        var outcome = await relayPieces(of: open, to: outlet, &run, work, timings, on: loop)
        dispatch.end(open, isFault: isReplicasFault(outcome, work))
        outlet.mailbox.ignoreWorker(open.handle, on: loop.eventLoop)
        if outcome.end != .clientLeft { await outlet.awaitWrites() }
        // It may have been written whole and not been taken.
        if outcome.end == .finished, outlet.isGone, outlet.deliveredTokens < run.relay.countedTokens || !outlet.hasBegun
        {
            outcome.end = .clientLeft
        }
        do throws(Refusal) {
            usedTokens = try await settleStream(run, outcome, work, outlet, on: loop)
        } catch {
            if !outlet.hasBegun { outlet.withdraw() }
            throw error
        }
    }

    /// A stream that was too long for the model's own bound, or whose caller took its time, speaks for nothing against its worker.
    private func isReplicasFault(_ outcome: StreamOutcome, _ work: HeldRequest) -> Bool {
        guard outcome.end == .workerFailed || outcome.end == .deadline else { return false }
        guard let policy = (work.route.candidates.first?.runtime as? ReplicaState)?.model.policy else { return false }
        let elapsed = Int64(clamping: (time.monotonicNanoseconds &- work.heldAtNanoseconds) / 1_000_000)
        return outcome.end == .workerFailed || elapsed < policy.streamTotalMilliseconds
    }

    private static func relay(of open: OpenStream, _ work: HeldRequest) throws(Refusal) -> StreamRelay {
        let bound = work.request.outputBound(work.route.profile)
        let keepsText = work.principal.retention != .none
        switch work.request {
        case .openAI(let request): return StreamRelay(request, outputBound: bound, keepsText: keepsText)
        case .generate(let request):
            return StreamRelay(
                request, from: open.turn.replica.workerProtocol, version: work.route.profile.version,
                outputBound: bound, keepsText: keepsText)
        case .predict, .infer: throw .notStreamed
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
                if isDraining {
                    // The caller may come back for it with its key.
                    keep(step.forward, &run)
                } else {
                    pass(step, to: outlet, &run, work, timings, on: loop)
                }
                if run.isOverfull {
                    open.handle.cancel()
                    return Self.outcome(of: .cutAtBound, isDraining)
                }
                if let end = step.end {
                    if end != .finished { open.handle.cancel() }
                    return Self.outcome(of: end, isDraining)
                }
                if !outlet.isWritable, !isDraining, !outlet.isGone { open.handle.setReading(false) }
            case .workerEnded(nil) where run.relay.takeEnd(): return Self.outcome(of: .finished, isDraining)
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
                if outlet.needsHeartbeat {
                    outlet.send(ByteBuffer(staticString: ": ping\n\n"), tokens: 0, textBytes: 0)
                } else if outlet.isStalled {
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
        outlet.send(events, tokens: step.tokens, textBytes: step.textBytes)
    }

    func begin(_ outlet: StreamOutlet, _ work: HeldRequest, _ timings: StageTimings, on loop: LoopContext) {
        pass(.workerAnswered)
        let now = time.monotonicNanoseconds
        var timings = timings
        timings.upstream = now &- work.heldAtNanoseconds
        Self.streamTimings.recordNanoseconds(Int64(clamping: now &- work.call.receivedNanoseconds))
        let facts = StreamHead(
            requestID: work.call.requestID, model: work.request.model, version: work.route.profile.version,
            limits: limits(of: work), degradations: degradations(work), timings: timings)
        outlet.begin(
            AnswerHead.stream(facts, clientID: outlet.clientID, keepsAlive: outlet.staysOpen, at: time.now, on: loop))
    }

    func keep(_ events: ByteBuffer, _ run: inout StreamRun) {
        guard run.kept != nil else { return }
        run.kept?.writeImmutableBuffer(events)
        run.isOverfull = (run.kept?.readableBytes ?? 0) > Self.keptByteLimit
    }
}
