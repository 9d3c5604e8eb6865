internal import Domain
internal import LedgerProof
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
    /// Where jobs are taken in; `nil` in a server that takes none.
    let jobs: JobDesk?
    let time: any TimeSource
    let logger: Logger
    let statistics = InferenceStatistics()
    #if WEIR_UNMETERED_BASELINE
        private let unmetered = UnmeteredCaller()
    #endif
    #if WEIR_FAULTS
        let faults: any FaultPlan

        init(
            keys: KeyCache, routes: RouteDirectory, prices: PriceBook, rates: RateKeeper, quota: QuotaKeeper,
            claims: ClaimKeeper, cache: PredictionCache, dispatch: Dispatch, settler: any Settler,
            estimates: TokenEstimates,
            refusals: RefusalBuffer, mirrors: MirrorTraffic, jobs: JobDesk? = nil, time: any TimeSource, logger: Logger,
            faults: any FaultPlan
        ) {
            self.jobs = jobs
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
            refusals: RefusalBuffer, mirrors: MirrorTraffic, jobs: JobDesk? = nil, time: any TimeSource, logger: Logger
        ) {
            self.jobs = jobs
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

    static let clamped = Counter(label: "weir_usage_clamped_total")

    /// - Parameter caller: whose connection a stream is written to; `nil` where nobody takes one.
    func run(
        _ call: InferenceCall, on loop: LoopContext, for caller: NIOLoopBound<ReadyRequest>? = nil
    ) async -> InferenceOutcome {
        pass(.accepted)
        let principal: Principal
        do throws(Refusal) {
            principal = try await authenticate(call)
        } catch {
            return .refused(error, call.requestID)
        }
        return await serve(call, for: principal, on: loop, to: caller)
    }

    /// All stages behind authentication.
    func serve(
        _ call: InferenceCall, for principal: Principal, on loop: LoopContext,
        to caller: NIOLoopBound<ReadyRequest>? = nil
    ) async -> InferenceOutcome {
        if call.target.isAsync { return await submit(call, for: principal, on: loop) }
        var timings = StageTimings()
        var claim: IdempotencyClaim?
        do throws(Refusal) {
            let authenticated = time.monotonicNanoseconds
            timings.authenticate = authenticated &- call.receivedNanoseconds
            // They count for jobs alone, but who misspells one is told so before it relies on it.
            _ = try call.jobFields.schedule(at: call.receivedAt)
            let request = try Self.validate(call.body, for: principal, target: call.target, routes: routes)
            if request.isStreaming, caller == nil { throw .notStreamed }
            // What is wrong with them costs no quota.
            let instruction = call.cacheFields.isEmpty ? nil : try CacheInstruction(call.cacheFields)
            let tags = call.tagFields.isEmpty ? nil : try RequestTags(fields: call.tagFields)
            let receipt = try call.receipt.form(where: principal.receipts)
            // A stream is never kept.
            if request.isStreaming, instruction?.use == .only { throw .notCached }
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
                cacheInstruction: instruction, tags: tags, receipt: Self.receiptBox(receipt, call, claim))
            if request.isStreaming {
                guard let caller else { throw .notStreamed }
                try await stream(work, timings: timings, to: caller, on: loop)
                if let claim { claims.end(claim) }
                return .streamed
            }
            let prediction = try await finish(work, timings: timings, on: loop)
            if let claim { claims.end(claim) }
            // A kept answer says nothing of a worker that another one could be compared with.
            if let mirror = route.mirror, !prediction.isCached, prediction.mediaType == nil {
                mirrors.offer(
                    request, to: mirror.route, of: call, answer: prediction.workersAnswer ?? prediction.prediction,
                    at: time.now, by: dispatch, on: loop)
            }
            return .answered(prediction)
        } catch {
            if let claim { await claims.giveUp(claim, after: error) }
            return .refused(error, call.requestID)
        }
    }

    // MARK: authenticate, validate, claim

    private func authenticate(_ call: InferenceCall) async throws(Refusal) -> Principal {
        #if WEIR_UNMETERED_BASELINE
            if let known = unmetered.principal { return known }
        #endif
        let principal = try await keys.customer(for: call.credentials, spends: true)
        guard principal.mayPredict else {
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
        _ body: ByteBuffer, for principal: Principal, target: CallTarget, routes: RouteDirectory
    ) throws(Refusal) -> InferenceRequest {
        let request = try InferenceRequest(body, for: target)
        if principal.allowedModels != nil, !principal.mayCall(request.model, in: routes.current.table) {
            throw notAllowed(request.model)
        }
        return request
    }

    private static func notAllowed(_ model: String) -> Refusal {
        Refusal(.modelNotAllowed, "The key may not call the model \(model). Use another key or model.")
    }

    /// Finds the version and the replicas of a request; also what a quote does.
    static func route(
        of request: InferenceRequest, for principal: Principal, in table: RouteTable
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
        for replica in route.candidates where !request.isSpoken(by: replica.workerProtocol) {
            if case .infer = request, replica.workerProtocol == .predict {
                throw .invalid(
                    "/inputs",
                    "must be one tensor of numbers of the shape [n,k]: the workers of \(request.model) take rows, and answer with the outputs prediction and probabilities",
                    fix: "Send one such tensor, and name no other outputs.")
            }
            throw Refusal(
                .validationFailed,
                "The model \(request.model) is not served on this route: its workers speak \(replica.workerProtocol.rawValue).",
                errors: [
                    .init(
                        location: "/model", message: "is not served on this route",
                        fix: "Send it to the route that its workers speak, or take another model.")
                ])
        }
        try request.check(against: route.profile, stickyField: route.stickyField)
        return route
    }

    /// The most tokens that the request can be charged: no tokenizer makes more tokens than there are bytes, and the profile bounds the
    /// output. Under a hard limit an estimate would not be enough.
    static func tokenBound(_ request: InferenceRequest, _ profile: ModelProfile) -> Int64 {
        let sum = request.inputBound.addingReportingOverflow(request.outputBound(profile))
        guard !sum.overflow else { return tokenLimit }
        return min(max(sum.partialValue, profile.fixedTokensPerRequest), tokenLimit)
    }

    /// More than any request uses, and little enough that sums of many bounds stay within 64 bits, whatever a profile says.
    private static let tokenLimit: Int64 = 1 << 40

    // MARK: rate limit, hold

    /// Takes of the rate limits and holds quota. A refused request consumes nothing, and because it has no row, what decided is kept for
    /// a while.
    func admit(
        _ bound: Int64, _ request: InferenceRequest, _ principal: Principal, _ call: InferenceCall, on loop: LoopContext
    ) async throws(Refusal) -> (RateTake?, Hold?) {
        var taken: RateTake?
        do throws(Refusal) {
            if call.attempt == nil { taken = try await rates.take(tokens: bound, for: principal) }
            let hold = try await quota.hold(tokens: bound, for: principal) {
                LeaseID(call.requestID, on: loop, at: time.now)
            }
            if let taken { rates.admit(taken, for: principal) }
            return (taken, hold)
        } catch {
            if let taken { rates.giveBack(taken, for: principal) }
            guard call.attempt == nil else { throw error }
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
            throw await settleFailure(error, of: work, on: loop)
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
                prediction(work, served, sheet: sheet, limits: [], timings: timings), of: claim)
        }
        let job =
            work.call.attempt == nil
            ? nil : Self.completion(of: work, prediction(work, served, sheet: nil, limits: [], timings: timings))
        let limits = try await settle(work, served, answer: answer, job: job, on: loop)
        timings.settle = time.monotonicNanoseconds &- answered
        if work.claim == nil {
            sheet = prices.known(work.tierVersionID)
            if sheet == nil { sheet = await self.sheet(of: work) }
        }
        note(served, of: work, timings)
        return prediction(work, served, sheet: sheet, limits: limits, timings: timings)
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

    func sheet(of work: HeldRequest) async -> PriceSheet? {
        try? await prices.sheet(work.tierVersionID)
    }

    func prediction(
        _ work: HeldRequest, _ served: Served, sheet: PriceSheet?, limits: [LimitReading], timings: StageTimings
    ) -> Prediction {
        let written = work.request.write(served.reading.prediction, version: served.version)
        return Prediction(
            requestID: work.call.requestID, surface: work.request.surface, model: work.request.model,
            version: served.version,
            prediction: written.body, probabilities: served.reading.probabilities, usage: served.usage,
            cost: sheet?.amount(requests: served.requests, usage: served.usage, model: work.route.model).rounded,
            currency: sheet?.currency ?? "",
            priceVersion: sheet?.versionText ?? "", limits: limits,
            degradations: degradations(work), timings: timings, cache: served.status,
            workersAnswer: served.reading.prediction, jsonByteCount: written.jsonByteCount,
            mediaType: served.reading.mediaType, receipt: work.receipt?.text)
    }

    /// An answer that is kept to be sent again is written before its commit, and one of a job as well: neither has a receipt, and both have
    /// their proofs.
    private static func receiptBox(
        _ form: ReceiptForm, _ call: InferenceCall, _ claim: IdempotencyClaim?
    ) -> ReceiptBox? {
        switch form {
        case .none: nil
        case .short, .full: claim == nil && call.attempt == nil ? ReceiptBox(form) : nil
        }
    }

    /// The numbers of a caller's limits, where a request has taken of its rate limits.
    func limits(of principal: Principal) -> [LimitReading] {
        let readings = quota.readings(for: principal)
        return principal.rateLimits == nil ? readings : rates.readings(for: principal) + readings
    }

    /// The numbers of the headers as they stand now.
    func limits(of work: HeldRequest) -> [LimitReading] {
        #if WEIR_UNMETERED_BASELINE
            return unmetered.readings
        #else
            let readings = quota.readings(for: work.principal)
            return work.take == nil ? readings : rates.readings(for: work.principal) + readings
        #endif
    }

    /// What the request used of its hold is booked; the numbers of the headers are those after it.
    func settleHold(_ work: HeldRequest, _ hold: Hold?, _ usage: Usage, requests: Int64) -> [LimitReading] {
        #if WEIR_UNMETERED_BASELINE
            return unmetered.readings
        #else
            guard let hold else { return work.take == nil ? [] : rates.readings(for: work.principal) }
            let readings = quota.settleAndRead(
                hold, usedRequests: requests, usedTokens: usage.totalTokens, for: work.principal)
            return work.take == nil ? readings : rates.readings(for: work.principal) + readings
        #endif
    }

    func degradations(_ work: HeldRequest) -> [String] {
        var names: [String] = []
        if case .unavailable = routes.current.redis { names = ["redis"] }
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
                rows: work.request.rowCount, requestBytes: work.request.byteCount,
                answerBytes: work.request.surface == .embeddings
                    ? 0 : Int64(reading.prediction.readableBytes + (reading.probabilities?.readableBytes ?? 0)),
                textBytes: work.request.generatedFromTextBytes))
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

    @inline(__always)
    func pass(_ point: PassPoint) {
        #if WEIR_FAULTS
            if let point = FaultPoint(rawValue: point.rawValue) { faults.pass(point) }
        #endif
    }

    /// The instants of the pipeline at which a test may end the process.
    enum PassPoint: String {
        case accepted, authenticated, held, answered
        case workerCalled = "worker_called"
        case workerAnswered = "worker_answered"
    }
}

extension Identifier where Kind == Entity.Lease {
    /// A lease's id needs to be unique and ordered by time, no more, so the loop's generator makes it.
    init(_ request: RequestID, on loop: LoopContext, at now: Timestamp) {
        let made = loop.makeRequestID(at: now)
        self.init(high: made.high, low: made.low)
    }
}
