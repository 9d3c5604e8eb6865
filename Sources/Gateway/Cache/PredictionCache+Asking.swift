internal import Domain
internal import Logging
internal import Metrics
internal import NIOCore
internal import Synchronization

extension PredictionCache {
    /// What becomes of a question.
    enum Opening {
        case hit(CachedPrediction, CacheStatus)
        /// The caller asks the worker, and ends what it leads with ``close(_:reading:usage:)`` or ``fail(_:_:)``.
        case leads(Lead)
        /// The caller asks the worker for itself.
        case alone
    }

    struct Lead: Sendable {
        let question: CacheQuestion
        let reason: CacheStatus.Reason
        /// Whether others wait for it in this process.
        let isFlight: Bool
        let claim: CacheClaim?
        /// The newest clearing that was known before the worker was asked. What is cleared while it works is not to come back with its answer.
        let clearing: Int64
    }

    /// Looks beyond this process's memory, or leads, or waits for who does.
    /// - Throws: `not_cached` where the request wants nothing else; what the worker's failure was, where two leaders failed; `upstream_timeout`
    ///   for one that has waited as long as it may.
    func open(_ question: CacheQuestion) async throws(Refusal) -> Opening {
        switch question.instruction.use {
        case .refresh, .bypass: return .leads(lead(question, .request))
        case .only:
            if let found = await lookBelow(question) { return found }
            throw .notCached
        case .use: break
        }
        // Whom nobody can wait for, nobody shall: all would ask the worker in the end, one later than the other.
        guard seconds(for: question) > 0 else { return await lookBelow(question) ?? .alone }
        guard !question.account.isUnkept(question.version, atNanoseconds: question.atNanoseconds) else {
            unkeptQuestions.increment()
            return .alone
        }
        if !question.tenant.flights.withLock({ $0.lead(question.key) }) {
            switch await wait(for: question) {
            case .served(let entry) where isCurrent(entry, question):
                question.account.count { $0.collapsed += 1 }
                return .hit(entry, .collapsed(ttlSeconds: entry.ttlSeconds(at: question.at)))
            case .served, .alone: return .alone
            case .failed(var refusal):
                // No worker has looked at this one.
                refusal.isRefusedInput = false
                throw refusal
            case .overdue: throw .waitedTooLong(configuration.waitMilliseconds)
            case .lead:
                // Its own time is over, not that of those who came later.
                guard time.monotonicNanoseconds < end(of: question) else {
                    pass(question)
                    throw .waitedTooLong(configuration.waitMilliseconds)
                }
            }
        }
        // Between the first look and the lead another leader may have ended.
        if let entry = find(question) {
            settle(question, .served(entry))
            question.account.countMemoryHit()
            return .hit(entry, Self.status(entry, question))
        }
        return await lookBelowOrLead(question)
    }

    /// How long the answer would be kept; 0 for not at all.
    private func seconds(for question: CacheQuestion) -> Int64 {
        question.policy.ttlSeconds(
            asked: question.instruction.ttlSeconds, default: configuration.standardTTLSeconds,
            maximum: configuration.maximumTTLSeconds)
    }

    static func status(_ entry: CachedPrediction, _ question: CacheQuestion) -> CacheStatus {
        .hit(ttlSeconds: entry.ttlSeconds(at: question.at), ageSeconds: entry.ageSeconds(at: question.at))
    }

    /// By the monotonic clock, until when a request waits for another's answer.
    private func end(of question: CacheQuestion) -> UInt64 {
        question.atNanoseconds &+ UInt64(max(0, configuration.waitMilliseconds)) * 1_000_000
    }

    /// Whoever waits too long is taken out by ``endWaits()``.
    private func wait(for question: CacheQuestion) async -> CacheFlights.End {
        await withCheckedContinuation { continuation in
            let waiter = CacheFlights.Waiter(continuation, endNanoseconds: end(of: question))
            switch question.tenant.flights.withLock({ $0.join(question.key, waiter) }) {
            case .waits: break
            case .leads: continuation.resume(returning: .lead)
            case .full: continuation.resume(returning: .alone)
            }
        }
    }

    // MARK: Below

    private func lookBelowOrLead(_ question: CacheQuestion) async -> Opening {
        var claim: CacheClaim?
        if question.policy.levels.redis, let shared {
            let wanted = CacheClaim(key: question.key, token: .random(in: 1...UInt64.max))
            switch await ask(shared, question, wanted) {
            case .found(let entry): return served(entry, question) { $0.redisHits += 1 }
            case .claimed:
                claim = wanted
                claims.withLock { _ = $0.insert(wanted) }
            case .nothing: break
            }
        }
        if question.policy.levels.table, let entry = await readTable(question) {
            if let claim { hand(entry, question, claim) }
            return served(entry, question) { $0.tableHits += 1 }
        }
        return .leads(lead(question, .uriMiss, isFlight: true, claim: claim))
    }

    private func lead(
        _ question: CacheQuestion, _ reason: CacheStatus.Reason, isFlight: Bool = false, claim: CacheClaim? = nil
    ) -> Lead {
        Lead(
            question: question, reason: reason, isFlight: isFlight, claim: claim,
            clearing: newestClearing.load(ordering: .acquiring))
    }

    /// Looks without leading: for who wants nothing but what is there.
    private func lookBelow(_ question: CacheQuestion) async -> Opening? {
        if question.policy.levels.redis, let shared,
            case .found(let bytes) = await shared.ask(question.key, claim: nil),
            let entry = decode(bytes, question)
        {
            remember(entry, question)
            question.account.count { $0.redisHits += 1 }
            return .hit(entry, Self.status(entry, question))
        }
        guard question.policy.levels.table, let entry = await readTable(question) else { return nil }
        remember(entry, question)
        question.account.count { $0.tableHits += 1 }
        return .hit(entry, Self.status(entry, question))
    }

    private enum SharedLook {
        case found(CachedPrediction)
        case claimed
        case nothing
    }

    /// Asks until there is an answer, the claim is ours, or it has taken as long as a worker may.
    private func ask(_ shared: any SharedPredictionCache, _ question: CacheQuestion, _ claim: CacheClaim) async
        -> SharedLook
    {
        var pauseMilliseconds: UInt64 = 2
        while true {
            switch await shared.ask(question.key, claim: claim) {
            case .found(let bytes): return decode(bytes, question).map { .found($0) } ?? .nothing
            case .claimed: return .claimed
            case .missing, .away: return .nothing
            case .busy:
                guard time.monotonicNanoseconds < end(of: question) else { return .nothing }
                try? await Task.sleep(nanoseconds: pauseMilliseconds * 1_000_000)
                pauseMilliseconds = min(pauseMilliseconds * 2, 50)
            }
        }
    }

    private func decode(_ bytes: [UInt8], _ question: CacheQuestion) -> CachedPrediction? {
        guard let entry = CacheFrame.decode(bytes, key: question.key, secret: question.tenant.secret),
            entry.version == question.version, isCurrent(entry, question)
        else { return nil }
        return entry
    }

    private func readTable(_ question: CacheQuestion) async -> CachedPrediction? {
        guard time.monotonicNanoseconds >= tableQuietUntilNanoseconds.load(ordering: .relaxed) else { return nil }
        do throws(StoreUnavailable) {
            guard let bytes = try await store.find(question.key, tenantID: question.tenant.id),
                let entry = decode(bytes, question)
            else { return nil }
            noteAccess(question)
            return entry
        } catch {
            tableQuietUntilNanoseconds.store(
                time.monotonicNanoseconds &+ Self.tableQuietNanoseconds, ordering: .relaxed)
            logger.debug("the table of predictions cannot be read", metadata: ["cause": "\(error.cause)"])
            return nil
        }
    }

    private func served(
        _ entry: CachedPrediction, _ question: CacheQuestion, _ count: (inout CacheTally) -> Void
    ) -> Opening {
        remember(entry, question)
        settle(question, .served(entry))
        question.account.count(count)
        return .hit(entry, Self.status(entry, question))
    }

    /// Counts a reading of a row; written down later, many at once.
    func noteAccess(_ question: CacheQuestion) {
        pending.withLock { pending in
            guard pending.accesses.count < Self.accessLimit || pending.accesses[question.key] != nil else { return }
            pending.accesses[question.key, default: CacheAccess(key: question.key, count: 0, lastAt: question.at)]
                .count += 1
            pending.accesses[question.key]?.lastAt = question.at
        }
    }

    // MARK: The end of a lead

    /// Keeps a worker's answer, if it is one to keep, and gives it to all who wait for it.
    /// - Parameter version: that the worker named; another than was expected is nobody else's answer.
    /// - Returns: whether it was kept.
    func close(_ lead: Lead, reading: WorkerReading, usage: Usage, version: String) -> Bool {
        let question = lead.question
        let now = time.now
        let seconds = seconds(for: question)
        // What is no JSON is not kept: an entry holds nothing of its type.
        guard version == question.version, question.instruction.use != .bypass, reading.mediaType == nil else {
            question.account.noteUnkept(
                question.version, untilNanoseconds: time.monotonicNanoseconds &+ Self.unkeptNanoseconds)
            abandon(lead)
            return false
        }
        let entry = CachedPrediction(
            reading: reading.compacted, version: version, usage: usage, label: question.instruction.label,
            storedAt: now, expiresAt: now.advanced(byMilliseconds: seconds * 1_000), clearing: lead.clearing)
        guard !hasCleared(entry, question) else {
            // Those who wait may have come after the clearing.
            if let claim = lead.claim { end(claim) }
            if lead.isFlight { pass(question) }
            return false
        }
        guard seconds > 0 else {
            abandon(lead)
            return false
        }
        let isRemembered = remember(entry, question)
        let isHanded = hand(entry, question, lead.claim)
        let isWritten = enqueueRow(entry, question)
        let isKept = isRemembered || isHanded || isWritten
        if isKept {
            question.account.count {
                $0.stores += 1
                $0.storedBytes += Int64(entry.byteCount)
            }
        }
        // Those who wait need it to be kept nowhere.
        if lead.isFlight { settle(question, .served(entry)) }
        return isKept
    }

    /// The leader came to nothing. One of those who wait tries in its place, unless too many did.
    func fail(_ lead: Lead, _ refusal: Refusal) {
        if let claim = lead.claim { end(claim) }
        if lead.isFlight { fail(lead.question, refusal) }
    }

    private func fail(_ question: CacheQuestion, _ refusal: Refusal) {
        let (waiters, oneLeads) = question.tenant.flights.withLock { $0.fail(question.key) }
        for waiter in waiters { waiter.resume(returning: oneLeads ? .lead : .failed(refusal)) }
    }

    /// The next one of those who wait leads.
    private func pass(_ question: CacheQuestion) {
        question.tenant.flights.withLock { $0.pass(question.key) }?.resume(returning: .lead)
    }

    private func abandon(_ lead: Lead) {
        if let claim = lead.claim { end(claim) }
        if lead.isFlight { settle(lead.question, .alone) }
    }

    private func settle(_ question: CacheQuestion, _ end: CacheFlights.End) {
        for waiter in question.tenant.flights.withLock({ $0.end(question.key) }) { waiter.resume(returning: end) }
    }

    private func end(_ claim: CacheClaim) {
        claims.withLock { _ = $0.remove(claim) }
        shared?.release(claim)
    }

    /// Gives an entry to the other gateways, and ends the claim with it.
    /// - Returns: whether there is hope that they have it; nobody waits for what Redis says.
    @discardableResult
    private func hand(_ entry: CachedPrediction, _ question: CacheQuestion, _ claim: CacheClaim?) -> Bool {
        if let claim { claims.withLock { _ = $0.remove(claim) } }
        guard question.policy.levels.redis, let shared else { return false }
        let left = (entry.expiresAt.microsecondsSince1970 - time.now.microsecondsSince1970) / 1_000
        guard left > 0 else {
            if let claim { shared.release(claim) }
            return false
        }
        let bytes = CacheFrame.encode(entry, key: question.key, secret: question.tenant.secret)
        guard fits(bytes, question.tenant.redisBudget) else {
            if let claim { shared.release(claim) }
            return false
        }
        shared.store(bytes, of: question.key, ttlMilliseconds: left, claim: claim)
        return !shared.isAway
    }

    /// Whether an answer may leave this process: no tenant fills what others keep their answers in too.
    private func fits(_ bytes: [UInt8], _ budget: CacheBudget) -> Bool {
        let isTaken =
            bytes.count <= configuration.valueBytes
            && budget.take(bytes.count, of: configuration.bytesPerMinute, atNanoseconds: time.monotonicNanoseconds)
        if !isTaken { refusedStores.increment() }
        return isTaken
    }

    /// - Returns: whether it waits to be written down.
    private func enqueueRow(_ entry: CachedPrediction, _ question: CacheQuestion) -> Bool {
        guard question.policy.levels.table else { return false }
        let row = CachedRow(
            key: question.key, tenantID: question.tenant.id, model: question.account.model, version: entry.version,
            label: entry.label,
            bytes: CacheFrame.encode(entry, key: question.key, secret: question.tenant.secret),
            cachedAt: entry.storedAt, expiresAt: entry.expiresAt)
        guard fits(row.bytes, question.tenant.tableBudget) else { return false }
        let isTaken = pending.withLock { pending in
            guard pending.rows.count < Self.rowLimit, pending.rowBytes + row.bytes.count <= Self.rowByteLimit else {
                return false
            }
            pending.rows.append(row)
            pending.rowBytes += row.bytes.count
            return true
        }
        if !isTaken { droppedRows.increment() }
        return isTaken
    }
}

extension WorkerReading {
    /// With bytes of its own: a slice would keep the whole of the worker's answer in memory.
    fileprivate var compacted: WorkerReading {
        WorkerReading(
            prediction: ByteBuffer(bytes: prediction.readableBytesView),
            probabilities: probabilities.map { ByteBuffer(bytes: $0.readableBytesView) }, version: version,
            inputTokens: inputTokens, cachedInputTokens: cachedInputTokens, outputTokens: outputTokens,
            mediaType: mediaType)
    }
}

extension Refusal {
    static var notCached: Refusal {
        Refusal(
            .notCached,
            "The answer is not in the cache, and the request wants no other. Send it without only-if-cached to have the model asked."
        )
    }

    fileprivate static func waitedTooLong(_ milliseconds: Int64) -> Refusal {
        Refusal(
            .upstreamTimeout,
            "The model's worker did not answer within \(milliseconds) milliseconds. Nothing was charged.",
            cause: "waited for another request's answer")
    }
}
