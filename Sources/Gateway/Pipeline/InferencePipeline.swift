internal import Crypto
internal import Domain
internal import Logging
internal import Metrics
internal import NIOCore

/// The life of a metered request, stage by stage. Every surface decodes into this and encodes out of it; none has a way around a stage.
///
///     authenticate -> validate -> claim the idempotency key, if there is one -> rate limit -> hold -> route -> dispatch -> settle -> answer
///
/// Runs on the event loop of its connection and leaves it only where a lease, a key or the commit is awaited. A request that was held is
/// settled or voided on every path, and a key that was claimed is answered or given up.
final class InferencePipeline: Sendable {
    let keys: KeyCache
    let routes: RouteDirectory
    let prices: PriceBook
    let rates: RateKeeper
    let quota: QuotaKeeper
    let claims: ClaimKeeper
    let dispatch: Dispatch
    let settler: any Settler
    let estimates: TokenEstimates
    let time: any TimeSource
    let logger: Logger
    #if WEIR_FAULTS
        let faults: any FaultPlan

        init(
            keys: KeyCache, routes: RouteDirectory, prices: PriceBook, rates: RateKeeper, quota: QuotaKeeper,
            claims: ClaimKeeper, dispatch: Dispatch, settler: any Settler, estimates: TokenEstimates,
            time: any TimeSource, logger: Logger, faults: any FaultPlan
        ) {
            self.estimates = estimates
            self.keys = keys
            self.routes = routes
            self.prices = prices
            self.rates = rates
            self.quota = quota
            self.claims = claims
            self.dispatch = dispatch
            self.settler = settler
            self.time = time
            self.logger = logger
            self.faults = faults
        }
    #else
        init(
            keys: KeyCache, routes: RouteDirectory, prices: PriceBook, rates: RateKeeper, quota: QuotaKeeper,
            claims: ClaimKeeper, dispatch: Dispatch, settler: any Settler, estimates: TokenEstimates,
            time: any TimeSource, logger: Logger
        ) {
            self.estimates = estimates
            self.keys = keys
            self.routes = routes
            self.prices = prices
            self.rates = rates
            self.quota = quota
            self.claims = claims
            self.dispatch = dispatch
            self.settler = settler
            self.time = time
            self.logger = logger
        }
    #endif

    private static let clamped = Counter(label: "weir_usage_clamped_total")

    func run(_ call: InferenceCall, on loop: LoopContext) async -> InferenceOutcome {
        pass(.accepted)
        var timings = StageTimings()
        var claim: IdempotencyClaim?
        do throws(Refusal) {
            let start = call.receivedNanoseconds
            let principal = try await authenticate(call)
            let authenticated = time.monotonicNanoseconds
            timings.authenticate = authenticated &- start
            let request = try Self.validate(call.body, for: principal)
            if !call.idempotencyFields.isEmpty {
                switch try await self.claim(call, request, principal) {
                case .claimed(let made): claim = made
                case .answered(let answer): return .replayed(answer, limits: quota.readings(for: principal))
                }
            }
            let route = try Self.route(of: request, in: routes.current.table)
            guard settler.isAccepting else { throw .storeAway(cause: "settlement is not accepting") }
            let routed = time.monotonicNanoseconds
            timings.route = routed &- authenticated
            let bound = Self.tokenBound(request, route.profile)
            let take = try await rates.take(tokens: bound, for: principal)
            let hold = try await hold(bound, principal, take, call, on: loop)
            let held = time.monotonicNanoseconds
            timings.quota = held &- routed
            pass(.held)
            let work = HeldRequest(
                call: call, principal: principal, request: request, route: route, take: take, hold: hold, bound: bound,
                claim: claim)
            let prediction = try await finish(work, heldAt: held, timings: timings, on: loop)
            if let claim { claims.end(claim) }
            return .answered(prediction)
        } catch {
            if let claim { await claims.giveUp(claim, after: error) }
            return .refused(error, call.requestID)
        }
    }

    /// A request whose quota is held; from here on it is settled or voided.
    private struct HeldRequest: Sendable {
        let call: InferenceCall
        let principal: Principal
        let request: PredictRequest
        let route: ModelRoute
        let take: RateTake?
        let hold: Hold?
        let bound: Int64
        let claim: IdempotencyClaim?
    }

    // MARK: authenticate, validate, claim

    private func authenticate(_ call: InferenceCall) async throws(Refusal) -> Principal {
        let principal = try await keys.customer(for: call.credentials)
        guard principal.scopes.contains(.predict) else {
            throw Refusal(.insufficientScope, "The key may not call models. Use a key with the scope predict.")
        }
        pass(.authenticated)
        return principal
    }

    /// Reads a body and checks what needs no route; also what a quote does.
    static func validate(_ body: ByteBuffer, for principal: Principal) throws(Refusal) -> PredictRequest {
        let request = try PredictRequest(body)
        if let allowed = principal.allowedModels, !allowed.contains(request.model) {
            throw Refusal(
                .modelNotAllowed, "The key may not call the model \(request.model). Use another key or model.")
        }
        return request
    }

    static func route(of request: PredictRequest, in table: RouteTable) throws(Refusal) -> ModelRoute {
        guard let route = table[request.model] else {
            throw Refusal(
                .modelNotFound,
                "There is no model of the name \(request.model). GET / names the API; ask the operator for models.")
        }
        try request.check(against: route.profile)
        return route
    }

    /// The most tokens that the request can be charged: no tokenizer makes more tokens than there are bytes, and the profile bounds the
    /// output. Under a hard limit an estimate would not be enough.
    static func tokenBound(_ request: PredictRequest, _ profile: ModelProfile) -> Int64 {
        let output = profile.maximumOutputTokens.multipliedReportingOverflow(by: Int64(request.rows.count))
        let sum = request.byteCount.addingReportingOverflow(output.partialValue)
        guard !output.overflow, !sum.overflow else { return tokenLimit }
        return min(max(sum.partialValue, profile.fixedTokensPerRequest), tokenLimit)
    }

    /// More than any request uses, and little enough that sums of many bounds stay within 64 bits, whatever a profile says.
    private static let tokenLimit: Int64 = 1 << 40

    // MARK: hold

    /// Holds quota; where there is none, what was taken of the rate limits is given back, because a refused request consumes nothing.
    private func hold(
        _ bound: Int64, _ principal: Principal, _ take: RateTake?, _ call: InferenceCall, on loop: LoopContext
    ) async throws(Refusal) -> Hold? {
        do throws(Refusal) {
            let hold = try await quota.hold(tokens: bound, for: principal) {
                LeaseID(call.requestID, on: loop, at: time.now)
            }
            if let take { rates.admit(take, for: principal) }
            return hold
        } catch {
            if let take { rates.giveBack(take, for: principal) }
            throw error
        }
    }

    // MARK: dispatch, settle, answer

    private func finish(
        _ work: HeldRequest, heldAt: UInt64, timings: StageTimings, on loop: LoopContext
    ) async throws(Refusal) -> Prediction {
        var usedTokens: Int64 = 0
        defer { if let take = work.take { rates.settle(take, usedTokens: usedTokens, for: work.principal) } }
        var timings = timings
        let reading: WorkerReading
        let slot = loop.enter(work.route.profile.name)
        do throws(Refusal) {
            pass(.workerCalled)
            reading = try await dispatch.call(work.request, route: work.route, call: work.call, on: loop.eventLoop)
            pass(.workerAnswered)
            loop.leave(slot)
        } catch {
            loop.leave(slot)
            if let hold = work.hold { quota.void(hold, of: work.principal.tenantID) }
            await recordFailure(error, of: work, on: loop)
            throw error
        }
        let answered = time.monotonicNanoseconds
        timings.upstream = answered &- heldAt
        let usage = meter(reading, work)
        usedTokens = usage.totalTokens
        let version =
            reading.version.flatMap { (1...128).contains($0.utf8.count) ? $0 : nil } ?? work.route.profile.version
        var sheet: PriceSheet?
        var answer: ClaimedAnswer?
        if let claim = work.claim {
            // What is kept has to be whole before it is written.
            sheet = try? await prices.sheet(work.principal.tierVersionID)
            answer = Self.answer(
                prediction(work, reading, usage: usage, version: version, sheet: sheet, timings: timings), of: claim)
        }
        try await settle(work, usage: usage, version: version, reading: reading, answer: answer, on: loop)
        timings.settle = time.monotonicNanoseconds &- answered
        if work.claim == nil { sheet = try? await prices.sheet(work.principal.tierVersionID) }
        return prediction(work, reading, usage: usage, version: version, sheet: sheet, timings: timings)
    }

    private func prediction(
        _ work: HeldRequest, _ reading: WorkerReading, usage: Usage, version: String, sheet: PriceSheet?,
        timings: StageTimings
    ) -> Prediction {
        let snapshot = routes.current
        return Prediction(
            requestID: work.call.requestID, model: work.request.model, version: version, prediction: reading.prediction,
            probabilities: reading.probabilities, usage: usage,
            cost: sheet?.amount(requests: 1, usage: usage, model: work.request.model).rounded,
            currency: sheet?.currency ?? "",
            priceVersion: work.principal.tierVersionID.priceVersionText, limits: limits(of: work),
            degradations: degradations(snapshot, work), timings: timings)
    }

    private func limits(of work: HeldRequest) -> [LimitReading] {
        let readings = quota.readings(for: work.principal)
        return work.take == nil ? readings : rates.readings(for: work.principal) + readings
    }

    private func degradations(_ snapshot: RouteSnapshot, _ work: HeldRequest) -> [String] {
        let names = snapshot.redis == .unavailable ? ["redis"] : []
        return work.take != nil && rates.isDegraded ? names + ["rate_limits"] : names
    }

    /// Counts the usage as the model's profile says, and never takes more than was held.
    private func meter(_ reading: WorkerReading, _ work: HeldRequest) -> Usage {
        let profile = work.route.profile
        let counted = profile.usage(
            of: MeteredExchange(
                reportedInputTokens: reading.inputTokens, reportedCachedInputTokens: reading.cachedInputTokens,
                reportedOutputTokens: reading.outputTokens,
                inputNumbers: profile.tokenCounting == .counted ? work.request.numberCount : 0,
                rows: Int64(work.request.rows.count), requestBytes: work.request.byteCount,
                answerBytes: Int64(reading.prediction.readableBytes + (reading.probabilities?.readableBytes ?? 0))))
        let (usage, wasClamped) = counted.clamped(toTokens: work.bound)
        estimates.observe(usage, of: work.request.model, requestBytes: work.request.byteCount)
        if wasClamped {
            Self.clamped.increment()
            logger.error(
                "a worker reported more usage than can be",
                metadata: [
                    "model": "\(work.request.model)", "request_id": "\(work.call.requestID.publicText)",
                    "bound": "\(work.bound)",
                ])
        }
        return usage
    }

    /// Writes request, ledger entry and result, and returns when they are committed.
    ///
    /// A lease that was lost meanwhile is asked for anew once: the work is done, and if quota is still there, it can be charged.
    private func settle(
        _ work: HeldRequest, usage: Usage, version: String, reading: WorkerReading, answer: ClaimedAnswer?,
        on loop: LoopContext
    ) async throws(Refusal) {
        var hold = work.hold
        var attempt = 0
        while true {
            attempt += 1
            let record = settlement(
                of: work, hold: hold, usage: usage, version: version, reading: reading, failure: nil, answer: answer)
            switch await submit(record, on: loop) {
            case .committed:
                if let hold { quota.settle(hold, usedTokens: usage.totalTokens, of: work.principal.tenantID) }
                pass(.answered)
                return
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

    /// A failed call leaves a request row and no ledger entry. That the row could not be written must not hide the failure itself.
    private func recordFailure(_ refusal: Refusal, of work: HeldRequest, on loop: LoopContext) async {
        #if WEIR_FAULTS
            let failure: FailureCode? = faults.mutant == .billFailed ? nil : refusal.code
        #else
            let failure: FailureCode? = refusal.code
        #endif
        let record = settlement(
            of: work, hold: nil, usage: .none, version: work.route.profile.version, reading: nil, failure: failure)
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
        of work: HeldRequest, hold: Hold?, usage: Usage, version: String, reading: WorkerReading?,
        failure: FailureCode?,
        answer: ClaimedAnswer? = nil
    ) -> Settlement {
        let completedAt = time.now
        let retention = work.principal.retention
        return Settlement(
            requestID: work.call.requestID, tenantID: work.principal.tenantID, userID: work.principal.userID,
            keyID: work.principal.keyID, model: work.request.model, modelVersion: version,
            outcome: failure == nil ? .completed : .failed, httpStatus: Int16(failure?.httpStatus ?? 200),
            errorCode: failure?.rawValue, createdAt: work.call.receivedAt,
            completedAt: max(completedAt, work.call.receivedAt),
            processingMicroseconds: Int64((time.monotonicNanoseconds &- work.call.receivedNanoseconds) / 1_000),
            estimatedTokens: work.bound, usage: usage, tierVersionID: work.principal.tierVersionID,
            leaseID: hold?.leaseID,
            prompt: retention == .full ? Array(work.call.body.readableBytesView) : nil,
            promptDigest: retention == .hashed
                ? Array(SHA256.hash(data: Array(work.call.body.readableBytesView))) : nil,
            result: retention == .full ? reading.map { AnswerBody.result($0) } : nil, answer: answer)
    }

    @inline(__always)
    private func pass(_ point: PassPoint) {
        #if WEIR_FAULTS
            if let point = FaultPoint(rawValue: point.rawValue) { faults.pass(point) }
        #endif
    }

    /// The instants of this file at which a test may end the process.
    private enum PassPoint: String {
        case accepted, authenticated, held, answered
        case workerCalled = "worker_called"
        case workerAnswered = "worker_answered"
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

extension Identifier where Kind == Entity.Lease {
    /// A lease's id needs to be unique and ordered by time, no more, so the loop's generator makes it.
    fileprivate init(_ request: RequestID, on loop: LoopContext, at now: Timestamp) {
        let made = loop.makeRequestID(at: now)
        self.init(high: made.high, low: made.low)
    }
}
