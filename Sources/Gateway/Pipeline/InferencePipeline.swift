internal import Crypto
internal import Domain
internal import Logging
internal import Metrics
internal import NIOCore

/// The life of a metered request, stage by stage. Every surface decodes into this and encodes out of it; none has a way around a stage.
///
///     authenticate -> validate -> claim the idempotency key, if there is one -> rate limit -> hold -> route -> cache -> dispatch -> settle
///         -> answer
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
    let cache: PredictionCache
    let dispatch: Dispatch
    let settler: any Settler
    let estimates: TokenEstimates
    let refusals: RefusalBuffer
    let mirrors: MirrorTraffic
    let time: any TimeSource
    let logger: Logger
    #if WEIR_UNMETERED_BASELINE
        private let unmetered = UnmeteredCaller()
    #endif
    #if WEIR_FAULTS
        let faults: any FaultPlan

        init(
            keys: KeyCache, routes: RouteDirectory, prices: PriceBook, rates: RateKeeper, quota: QuotaKeeper,
            claims: ClaimKeeper, cache: PredictionCache, dispatch: Dispatch, settler: any Settler,
            estimates: TokenEstimates,
            refusals: RefusalBuffer, mirrors: MirrorTraffic, time: any TimeSource, logger: Logger, faults: any FaultPlan
        ) {
            self.estimates = estimates
            self.refusals = refusals
            self.mirrors = mirrors
            self.cache = cache
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
            claims: ClaimKeeper, cache: PredictionCache, dispatch: Dispatch, settler: any Settler,
            estimates: TokenEstimates,
            refusals: RefusalBuffer, mirrors: MirrorTraffic, time: any TimeSource, logger: Logger
        ) {
            self.estimates = estimates
            self.refusals = refusals
            self.mirrors = mirrors
            self.cache = cache
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
            let request = try Self.validate(call.body, for: principal, routes: routes)
            // What is wrong with them costs no quota.
            let instruction = call.cacheFields.isEmpty ? nil : try CacheInstruction(call.cacheFields)
            if !call.idempotencyFields.isEmpty {
                switch try await self.claim(call, request, principal) {
                case .claimed(let made): claim = made
                case .answered(let answer): return .replayed(answer, limits: quota.readings(for: principal))
                }
            }
            let route = try Self.route(of: request, for: principal, in: routes.current.table)
            guard settler.isAccepting else { throw .storeAway(cause: "settlement is not accepting") }
            let routed = time.monotonicNanoseconds
            timings.route = routed &- authenticated
            let bound = Self.tokenBound(request, route.profile)
            #if WEIR_UNMETERED_BASELINE
                let (take, hold): (RateTake?, Hold?) = (nil, nil)
            #else
                let (take, hold) = try await admit(bound, request, principal, call, on: loop)
            #endif
            let held = time.monotonicNanoseconds
            timings.quota = held &- routed
            pass(.held)
            let work = HeldRequest(
                call: call, principal: principal, request: request, route: route, take: take, hold: hold,
                heldAtNanoseconds: held, bound: bound, claim: claim,
                cacheInstruction: instruction)
            let prediction = try await finish(work, timings: timings, on: loop)
            if let claim { claims.end(claim) }
            // A kept answer says nothing of a worker that another one could be compared with.
            if let mirror = route.mirror, !prediction.isCached {
                mirrors.offer(
                    request, to: mirror.route, of: call, answer: prediction.prediction, at: time.now, by: dispatch,
                    on: loop)
            }
            return .answered(prediction)
        } catch {
            if let claim { await claims.giveUp(claim, after: error) }
            return .refused(error, call.requestID)
        }
    }

    /// A request whose quota is held; from here on it is settled or voided.
    ///
    /// A class, because every stage takes it: to copy its parts into each stage's frame would cost more than to allocate it.
    final class HeldRequest: Sendable {
        let call: InferenceCall
        let principal: Principal
        let request: PredictRequest
        let route: ResolvedRoute
        let take: RateTake?
        let hold: Hold?
        /// By the monotonic clock: when it was admitted.
        let heldAtNanoseconds: UInt64
        let bound: Int64
        let claim: IdempotencyClaim?
        /// `nil` where the request says nothing about the cache.
        let cacheInstruction: CacheInstruction?

        init(
            call: InferenceCall, principal: Principal, request: PredictRequest, route: ResolvedRoute, take: RateTake?,
            hold: Hold?, heldAtNanoseconds: UInt64, bound: Int64, claim: IdempotencyClaim?,
            cacheInstruction: CacheInstruction?
        ) {
            self.call = call
            self.principal = principal
            self.request = request
            self.route = route
            self.take = take
            self.hold = hold
            self.heldAtNanoseconds = heldAtNanoseconds
            self.bound = bound
            self.claim = claim
            self.cacheInstruction = cacheInstruction
        }
    }

    // MARK: authenticate, validate, claim

    private func authenticate(_ call: InferenceCall) async throws(Refusal) -> Principal {
        #if WEIR_UNMETERED_BASELINE
            if let known = unmetered.principal { return known }
        #endif
        let principal = try await keys.customer(for: call.credentials)
        guard principal.scopes.contains(.predict) else {
            throw Refusal(.insufficientScope, "The key may not call models. Use a key with the scope predict.")
        }
        pass(.authenticated)
        #if WEIR_UNMETERED_BASELINE
            unmetered.remember(principal)
        #endif
        return principal
    }

    /// Reads a body and checks what needs no route; also what a quote does.
    ///
    /// A key that may call a model may call it by every name; one that may only use another name may use that one.
    static func validate(
        _ body: ByteBuffer, for principal: Principal, routes: RouteDirectory
    ) throws(Refusal) -> PredictRequest {
        let request = try PredictRequest(body)
        if let allowed = principal.allowedModels, !allowed.contains(request.model),
            !(routes.current.table.realModel(of: request.model).map(allowed.contains) ?? false)
        {
            throw notAllowed(request.model)
        }
        return request
    }

    private static func notAllowed(_ model: String) -> Refusal {
        Refusal(.modelNotAllowed, "The key may not call the model \(model). Use another key or model.")
    }

    /// Finds the version and the replicas of a request; also what a quote does.
    static func route(
        of request: PredictRequest, for principal: Principal, in table: RouteTable
    ) throws(Refusal) -> ResolvedRoute {
        let route = table.resolve(
            model: request.model, version: request.version,
            stickiness: { rule, hash in request.tell(rule, of: principal, to: &hash) },
            draw: { UInt64.random(in: .min ... .max) })
        guard let route else {
            guard table.realModel(of: request.model) != nil else {
                throw Refusal(
                    .modelNotFound,
                    "There is no model of the name \(request.model). GET / names the API; ask the operator for models."
                )
            }
            guard let version = request.version else {
                throw Refusal(
                    .modelNotFound,
                    "The model \(request.model) has no version in service any more. Ask the operator for another one.")
            }
            throw Refusal(
                .modelNotFound,
                "The model \(request.model) has no version \(version). Leave version out for the one in service.")
        }
        // Once more, of the very model that will be called: an alias may have moved since the body was read.
        if let allowed = principal.allowedModels, !allowed.contains(request.model), !allowed.contains(route.model) {
            throw notAllowed(request.model)
        }
        try request.check(extra: route.stickyField)
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

    // MARK: rate limit, hold

    /// Takes of the rate limits and holds quota. A refused request consumes nothing, and because it has no row, what decided is kept for
    /// a while.
    private func admit(
        _ bound: Int64, _ request: PredictRequest, _ principal: Principal, _ call: InferenceCall, on loop: LoopContext
    ) async throws(Refusal) -> (RateTake?, Hold?) {
        var taken: RateTake?
        do throws(Refusal) {
            taken = try await rates.take(tokens: bound, for: principal)
            let hold = try await quota.hold(tokens: bound, for: principal) {
                LeaseID(call.requestID, on: loop, at: time.now)
            }
            if let taken { rates.admit(taken, for: principal) }
            return (taken, hold)
        } catch {
            if let taken { rates.giveBack(taken, for: principal) }
            refusals.note(
                error, of: call.requestID, for: principal, model: request.model, at: time.now,
                monotonicNanoseconds: time.monotonicNanoseconds)
            throw error
        }
    }

    // MARK: dispatch, settle, answer

    private func finish(
        _ work: HeldRequest, timings: StageTimings, on loop: LoopContext
    ) async throws(Refusal) -> Prediction {
        var usedTokens: Int64 = 0
        defer { if let take = work.take { rates.settle(take, usedTokens: usedTokens, for: work.principal) } }
        var timings = timings
        let served: Served
        do throws(Refusal) {
            served = try await serve(work, on: loop)
        } catch {
            if let hold = work.hold { quota.void(hold, of: work.principal.tenantID) }
            // Nothing was asked of a worker, and the caller wanted it so.
            if error.code != .notCached { await recordFailure(error, of: work, on: loop) }
            throw error
        }
        let answered = time.monotonicNanoseconds
        timings.upstream = answered &- work.heldAtNanoseconds
        usedTokens = served.usage.totalTokens
        var sheet: PriceSheet?
        var answer: ClaimedAnswer?
        if let claim = work.claim {
            // What is kept has to be whole before it is written.
            sheet = await self.sheet(of: work)
            answer = Self.answer(
                prediction(work, served, sheet: sheet, timings: timings), of: claim)
        }
        try await settle(work, served, answer: answer, on: loop)
        timings.settle = time.monotonicNanoseconds &- answered
        if work.claim == nil {
            sheet = prices.known(work.principal.tierVersionID)
            if sheet == nil { sheet = await self.sheet(of: work) }
        }
        return prediction(work, served, sheet: sheet, timings: timings)
    }

    /// - Parameter startedAt: monotonic nanoseconds; where the model's deadlines begin.
    func askWorker(
        _ work: HeldRequest, startedAt: UInt64, on loop: LoopContext
    ) async throws(Refusal) -> WorkerReading {
        pass(.workerCalled)
        let reading = try await dispatch.call(
            work.request, route: work.route, call: work.call, startedAt: startedAt, on: loop.eventLoop)
        pass(.workerAnswered)
        return reading
    }

    private func sheet(of work: HeldRequest) async -> PriceSheet? {
        try? await prices.sheet(work.principal.tierVersionID)
    }

    private func prediction(
        _ work: HeldRequest, _ served: Served, sheet: PriceSheet?, timings: StageTimings
    ) -> Prediction {
        let snapshot = routes.current
        return Prediction(
            requestID: work.call.requestID, model: work.request.model, version: served.version,
            prediction: served.reading.prediction, probabilities: served.reading.probabilities, usage: served.usage,
            cost: sheet?.amount(requests: 1, usage: served.usage, model: work.route.model).rounded,
            currency: sheet?.currency ?? "",
            priceVersion: sheet?.versionText ?? "", limits: limits(of: work),
            degradations: degradations(snapshot, work), timings: timings, cache: served.status)
    }

    private func limits(of work: HeldRequest) -> [LimitReading] {
        #if WEIR_UNMETERED_BASELINE
            return []
        #else
            let readings = quota.readings(for: work.principal)
            return work.take == nil ? readings : rates.readings(for: work.principal) + readings
        #endif
    }

    private func degradations(_ snapshot: RouteSnapshot, _ work: HeldRequest) -> [String] {
        var names = snapshot.redis == .unavailable ? ["redis"] : []
        if work.take != nil, rates.isDegraded { names.append("rate_limits") }
        let policy = work.route.profile.cache
        if policy.isOn, policy.levels.redis, cache.isDegraded { names.append("cache") }
        return names
    }

    /// Counts the usage as the model's profile says, and never takes more than was held.
    func meter(_ reading: WorkerReading, _ work: HeldRequest) -> Usage {
        let profile = work.route.profile
        let counted = profile.usage(
            of: MeteredExchange(
                reportedInputTokens: reading.inputTokens, reportedCachedInputTokens: reading.cachedInputTokens,
                reportedOutputTokens: reading.outputTokens,
                inputNumbers: profile.tokenCounting == .counted ? work.request.numberCount : 0,
                rows: Int64(work.request.rows.count), requestBytes: work.request.byteCount,
                answerBytes: Int64(reading.prediction.readableBytes + (reading.probabilities?.readableBytes ?? 0))))
        let (usage, wasClamped) = counted.clamped(toTokens: work.bound)
        estimates.observe(usage, of: work.route.model, requestBytes: work.request.byteCount)
        if wasClamped {
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

    /// Writes request, ledger entry and result, and returns when they are committed.
    ///
    /// A lease that was lost meanwhile is asked for anew once: the work is done, and if quota is still there, it can be charged.
    private func settle(
        _ work: HeldRequest, _ served: Served, answer: ClaimedAnswer?, on loop: LoopContext
    ) async throws(Refusal) {
        let usage = served.usage
        var hold = work.hold
        var attempt = 0
        while true {
            attempt += 1
            let record = settlement(
                of: work, hold: hold, usage: usage, version: served.version, served: served, failure: nil,
                answer: answer)
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
            of: work, hold: nil, usage: .none, version: work.route.profile.version, served: nil, failure: failure)
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
        of work: HeldRequest, hold: Hold?, usage: Usage, version: String, served: Served?, failure: FailureCode?,
        answer: ClaimedAnswer? = nil
    ) -> Settlement {
        let completedAt = time.now
        let retention = work.principal.retention
        return Settlement(
            requestID: work.call.requestID, tenantID: work.principal.tenantID, userID: work.principal.userID,
            keyID: work.principal.keyID, model: work.route.model, modelVersion: version,
            outcome: failure == nil ? .completed : .failed, httpStatus: Int16(failure?.httpStatus ?? 200),
            errorCode: failure?.rawValue, createdAt: work.call.receivedAt,
            completedAt: max(completedAt, work.call.receivedAt),
            processingMicroseconds: Int64((time.monotonicNanoseconds &- work.call.receivedNanoseconds) / 1_000),
            estimatedTokens: work.bound, usage: usage, tierVersionID: work.principal.tierVersionID,
            leaseID: hold?.leaseID,
            prompt: retention == .full ? Array(work.call.body.readableBytesView) : nil,
            promptDigest: retention == .hashed
                ? Array(SHA256.hash(data: Array(work.call.body.readableBytesView))) : nil,
            result: retention == .full ? served.map { AnswerBody.result($0.reading) } : nil, answer: answer,
            servedUsage: served?.servedUsage)
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
