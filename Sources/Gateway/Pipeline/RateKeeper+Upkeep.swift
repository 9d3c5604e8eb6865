internal import Domain
internal import Synchronization

/// What a gateway tells the owner of rate limits without a request that asks for anything.
extension RateKeeper {
    /// Says what was spent, renews what is used and gives back what is not; called several times in a lease's life.
    public func keep() async {
        await probe()
        own.sweep()
        await visitAll(givesBack: false)
    }

    /// Gives everything back that is not in use; the gateway is stopping.
    public func drain() async {
        await visitAll(givesBack: true)
    }

    /// Gives back at once what others may be refused for; runs until it is cancelled. Near a limit what a request leaves when it ends would
    /// else lie here until the next upkeep.
    public func returnWhatOthersNeed() async {
        for await id in returning { await visit(id, rateTenant(id), givesBack: false) }
    }

    /// Asks Redis whether it is there, if nobody else did lately.
    private func probe() async {
        guard let shared else { return }
        let owner = ownership.load(ordering: .relaxed)
        let isAway = !owner.isMultiple(of: 2)
        let quiet = time.monotonicNanoseconds &- lastExchange.load(ordering: .relaxed)
        guard isAway || quiet >= lifetimeNanoseconds / 4 else { return }
        do throws(StoreUnavailable) {
            _ = try await shared.exchange(TenantID(high: 0, low: 0), [])
            if isAway { change(from: owner, cause: nil) }
        } catch {
            if !isAway { change(from: owner, cause: error.cause) }
        }
    }

    /// Tenants whose exchanges are under way together.
    private static let visitWidth = 32

    /// Keys of a tenant in one exchange.
    private static let exchangeWidth = 256

    private func visitAll(givesBack: Bool) async {
        let all = accounts.withLock { Array($0) }.filter { !$0.value.state.withLock { $0.isIdle } }
        await withTaskGroup(of: Void.self) { group in
            for (index, (id, tenant)) in all.enumerated() {
                if index >= Self.visitWidth { await group.next() }
                group.addTask { await self.visit(id, tenant, givesBack: givesBack) }
            }
        }
    }

    private func visit(_ id: TenantID, _ tenant: RateTenant, givesBack: Bool) async {
        let owner = ownership.load(ordering: .relaxed)
        let sentAt = time.monotonicNanoseconds
        let demands = tenant.state.withLock { state -> [RateDemand] in
            guard !state.isAsking else { return [] }
            let demands = state.upkeep(owner: owner, givesBack: givesBack, at: sentAt)
            state.isAsking = !demands.isEmpty
            return demands
        }
        guard !demands.isEmpty else { return }
        for start in stride(from: 0, to: demands.count, by: Self.exchangeWidth) {
            let part = Array(demands[start..<min(start + Self.exchangeWidth, demands.count)])
            guard let answer = await exchange(id, part, owner: owner) else {
                tenant.state.withLock { $0.loseAll() }
                break
            }
            let now = time.monotonicNanoseconds
            tenant.state.withLock {
                $0.answered(part, answer, sentAt: sentAt, lifetime: lifetimeNanoseconds, at: now)
            }
        }
        release(tenant, id, nil, nil)
    }
}
