internal import Domain
internal import Logging
internal import Synchronization

/// What a gateway tells the owner of quota without a request that asks for anything.
extension QuotaKeeper {
    /// Leases of one account that are due for renewal.
    private struct Due: Sendable {
        let tenant: TenantQuota
        let place: Int
        let leases: [LeaseID]
    }

    /// Renews leases in use, gives back what is idle where it is missed, and closes idle leases; called many times in a lease's life.
    ///
    /// The work grows with the leases that are there, not with leases times tenants: what the database says of a lease goes to the account
    /// that it is in.
    public func keep() async {
        let monotonic = time.monotonicNanoseconds
        let leaseNanoseconds = UInt64(configuration.leaseMilliseconds) * 1_000_000
        var due: [Due] = []
        var ended: [LeaseID] = []
        for tenant in tenants.withLock({ Array($0.values) }) {
            tenant.state.withLock { state in
                for place in state.accounts.indices {
                    let part = state[place].book.tick(
                        monotonicNanoseconds: monotonic, idleAfterNanoseconds: leaseNanoseconds / 2,
                        renewWithinNanoseconds: leaseNanoseconds / 4 * 3)
                    if !part.renew.isEmpty { due.append(Due(tenant: tenant, place: place, leases: part.renew)) }
                    ended += part.close
                }
            }
        }
        do throws(StoreUnavailable) {
            for part in Self.batches(of: due) { try await renew(part) }
            try await close(ended)
        } catch {
            // The leases end by themselves and the reaper books them; admission from them ends by our own clock before that.
            logger.warning("leases could not be kept", metadata: ["cause": "\(error.cause)"])
        }
    }

    /// One statement locks all of its leases, so it must not have too many of them.
    private static let renewalLimit = 1_000

    private static func batches(of due: [Due]) -> [[Due]] {
        var batches: [[Due]] = []
        var room = 0
        for part in due {
            if room <= 0 {
                batches.append([])
                room = renewalLimit
            }
            batches[batches.count - 1].append(part)
            room -= part.leases.count
        }
        return batches
    }

    /// In parts: while a lease is booked, this gateway's settlements wait, and at the edge of a period all tenants' leases end at once.
    private func close(_ leases: [LeaseID]) async throws(StoreUnavailable) {
        for start in stride(from: 0, to: leases.count, by: Self.closeLimit) {
            try await ledger.close(Array(leases[start..<min(start + Self.closeLimit, leases.count)]))
        }
    }

    private static let closeLimit = 16

    private func renew(_ due: [Due]) async throws(StoreUnavailable) {
        let sentAt = time.monotonicNanoseconds
        let renewal = try await ledger.renew(due.flatMap(\.leases))
        let until = sentAt + UInt64(configuration.leaseMilliseconds) * 1_000_000
        var returns: [LeaseReturn] = []
        var giving: [Due] = []
        for part in due {
            let idle = part.tenant.state.withLock { state in
                state[part.place].book.renewed(part.leases, as: renewal, untilNanoseconds: until)
            }
            guard !idle.isEmpty else { continue }
            returns += idle
            giving.append(part)
        }
        guard !returns.isEmpty else { return }
        do throws(StoreUnavailable) {
            try await ledger.giveBack(returns)
        } catch {
            for part in giving {
                part.tenant.state.withLock { state in
                    for lease in part.leases where renewal.scarce.contains(lease) {
                        state[part.place].book.retire(lease)
                    }
                }
            }
            throw error
        }
    }

    /// Gives back everything that is not in flight; the gateway is stopping.
    public func drain() async {
        let idle = tenants.withLock { Array($0.values) }.flatMap { tenant in
            tenant.state.withLock { state in state.accounts.indices.flatMap { state[$0].book.drain() } }
        }
        guard !idle.isEmpty else { return }
        do throws(StoreUnavailable) {
            try await close(idle)
        } catch {
            logger.warning("leases could not be given back", metadata: ["cause": "\(error.cause)"])
        }
    }
}
