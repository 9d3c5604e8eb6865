internal import Domain
internal import NIOCore

/// The stage between hold and dispatch: a question that was answered lately is answered again, and one that is being asked is waited for.
extension InferencePipeline {
    /// An answer and what is charged for it.
    struct Served: Sendable {
        let reading: WorkerReading
        /// What is charged.
        let usage: Usage
        /// 1, or 0 where the request itself is free.
        var requests: Int64 = 1
        let version: String
        /// The usage of the worker's own answer, where the cache gave it.
        var servedUsage: Usage?
        var status: CacheStatus?
        /// Of an answer that was sent piece by piece.
        var stream: StreamRecord?
    }

    /// Calls the worker, by way of the cache where the model or the request has to do with one.
    func serve(_ work: HeldRequest, on loop: LoopContext) async throws(Refusal) -> Served {
        guard work.route.profile.cache.isOn || work.cacheInstruction != nil, !work.request.isStreaming else {
            return try await serveByWorker(work, on: loop)
        }
        return try await serveByCache(work, on: loop)
    }

    private func serveByWorker(_ work: HeldRequest, on loop: LoopContext, _ status: CacheStatus? = nil)
        async throws(Refusal) -> Served
    {
        // A request may have waited for another's answer; that is no time of the worker's. Without a cache nothing lies between.
        let startedAt = work.route.profile.cache.isOn ? time.monotonicNanoseconds : work.heldAtNanoseconds
        let reading = try await askWorker(work, startedAt: startedAt, on: loop)
        return Served(
            reading: reading, usage: meter(reading, work), version: Self.version(of: reading, work), status: status)
    }

    /// The version that the worker names, or the registered one.
    private static func version(of reading: WorkerReading, _ work: HeldRequest) -> String {
        reading.version.flatMap { (1...128).contains($0.utf8.count) ? $0 : nil } ?? work.route.profile.version
    }

    private func serveByCache(_ work: HeldRequest, on loop: LoopContext) async throws(Refusal) -> Served {
        let instruction = work.cacheInstruction ?? .standard
        guard work.route.profile.cache.isOn,
            work.request.isCacheable(work.route.profile.cache, isAskedFor: instruction.isAsked)
        else {
            if instruction.use == .only { throw .notCached }
            return try await serveByWorker(work, on: loop)
        }
        guard instruction.use != .bypass, cache.knowsClearings,
            let version = work.route.servedVersion
        else {
            if instruction.use == .only { throw .notCached }
            return try await serveByWorker(work, on: loop, .forwarded(.bypass, isStored: false))
        }
        let question = cache.question(work.request, version, instruction, work)
        if instruction.use != .refresh, let entry = cache.find(question) {
            question.account.countMemoryHit()
            if question.policy.levels.table { cache.noteAccess(question) }
            return try await charge(entry, PredictionCache.status(entry, question), work)
        }
        switch try await cache.open(question) {
        case .hit(let entry, let status): return try await charge(entry, status, work)
        case .alone:
            question.account.count { $0.misses += 1 }
            return try await serveByWorker(work, on: loop, .forwarded(.uriMiss, isStored: false))
        case .leads(let lead): return try await askWorker(leading: lead, work, on: loop)
        }
    }

    private func askWorker(
        leading lead: PredictionCache.Lead, _ work: HeldRequest, on loop: LoopContext
    ) async throws(Refusal) -> Served {
        lead.question.account.count { $0.misses += 1 }
        let served: Served
        do throws(Refusal) {
            served = try await serveByWorker(work, on: loop)
        } catch {
            cache.fail(lead, error)
            throw error
        }
        // Whoever waits is answered as soon as the answer is there; each settles for itself.
        let isStored = cache.close(lead, reading: served.reading, usage: served.usage, version: served.version)
        return Served(
            reading: served.reading, usage: served.usage, version: served.version,
            status: .forwarded(lead.reason, isStored: isStored))
    }

    /// What the tier says that a hit costs; never more than was held.
    private func charge(_ entry: CachedPrediction, _ status: CacheStatus, _ work: HeldRequest) async throws(Refusal)
        -> Served
    {
        let sheet: PriceSheet
        if let known = prices.known(work.tierVersionID) {
            sheet = known
        } else {
            do throws(StoreUnavailable) {
                guard let read = try await prices.sheet(work.tierVersionID) else {
                    throw StoreUnavailable(cause: "no price sheet")
                }
                sheet = read
            } catch {
                throw .storeAway(cause: error.cause)
            }
        }
        let (usage, _) = entry.usage.chargedForHit(percent: sheet.cacheHitTokenPercent).clamped(toTokens: work.bound)
        return Served(
            reading: entry.reading, usage: usage, requests: sheet.requestTerms.cacheHit == .free ? 0 : 1,
            version: entry.version, servedUsage: entry.usage, status: status)
    }
}

extension PredictionCache {
    /// What a request asks the cache.
    fileprivate func question(
        _ request: InferenceRequest, _ version: String, _ instruction: CacheInstruction,
        _ work: InferencePipeline.HeldRequest
    ) -> CacheQuestion {
        let tenant = tenant(work.principal.tenantID)
        let policy = work.route.profile.cache
        return CacheQuestion(
            tenant: tenant, account: tenant.account(of: work.route.model),
            key: key(request, version, instruction, work, tenant),
            version: version, policy: policy, instruction: instruction, at: work.call.receivedAt,
            atNanoseconds: work.call.receivedNanoseconds)
    }

    private func key(
        _ request: InferenceRequest, _ version: String, _ instruction: CacheInstruction,
        _ work: InferencePipeline.HeldRequest, _ tenant: CacheTenant
    ) -> CacheKey {
        let (route, policy) = (work.route, work.route.profile.cache)
        func made() -> CacheKey {
            tenant.secret.key(
                of: request, model: route.model, version: version, policy: policy, label: instruction.label,
                stickyField: route.stickyField)
        }
        // The memo knows the JSON alone: of tensors behind it, equal JSON says nothing.
        guard instruction.label == nil, request.binary?.readableBytes ?? 0 == 0 else { return made() }
        let terms = QuestionMemo.Terms(
            surface: request.surface, model: route.model, version: version, sameness: policy.sameness,
            stickyField: route.stickyField)
        return memo.key(request.tape.bytes, of: tenant.id, terms, make: made)
    }
}
