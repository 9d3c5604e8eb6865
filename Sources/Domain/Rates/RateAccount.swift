/// All that is known of one scope's limits: what was charged, and who holds how much. The pure form of what the script in Redis does; both
/// are held to the same tests.
public struct RateAccount: Hashable, Sendable {
    private struct Hold: Hashable, Sendable {
        var credit: RateCredit
        /// Microseconds since 1970.
        var expiresAt: Int64
    }

    private var requests = GCRA()
    private var tokens = GCRA()
    private var holds: [GatewayID: Hold] = [:]
    private var refusedAt: Int64 = 0

    public init() {}

    /// Whether nothing would change if the account were forgotten: what was charged is earned back, and nobody has a lease. One that ended
    /// untold counts as spent at its end.
    public func isIdle(at now: Int64) -> Bool {
        var (requests, tokens) = (requests, tokens)
        for hold in holds.values {
            guard hold.expiresAt <= now else { return false }
            requests.charge(hold.credit.requests, at: hold.expiresAt, ceiling: .max)
            tokens.charge(hold.credit.tokens, at: hold.expiresAt, ceiling: .max)
        }
        return requests.level(at: now) == 0 && tokens.level(at: now) == 0
    }

    /// See ``RateLimiter/exchange(_:_:)``.
    /// - Parameters:
    ///   - accounts: one for each demand.
    ///   - now: microseconds since 1970.
    public static func exchange(
        _ demands: [RateDemand], _ accounts: inout [RateAccount], of gateway: GatewayID, lifetimeMicroseconds: Int64,
        at now: Int64
    ) -> RateAnswer {
        var shortage: RateAnswer.Shortage?
        var longest: Int64 = -1
        for index in demands.indices {
            accounts[index].book(demands[index], of: gateway, at: now)
            for unit in RateUnit.allCases {
                let lack = accounts[index].lack(of: unit, demands[index], gateway, at: now)
                guard lack > 0, longest < (unit == .concurrency ? 0 : lack) else { continue }
                longest = unit == .concurrency ? 0 : lack
                shortage = RateAnswer.Shortage(demand: index, unit: unit, waitMicroseconds: longest)
            }
        }
        let standings = demands.indices.map { index in
            accounts[index].grant(
                demands[index], of: gateway, lifetimeMicroseconds: lifetimeMicroseconds, isRefused: shortage != nil,
                at: now)
        }
        return RateAnswer(shortage: shortage, standings: standings)
    }

    /// Charges what was spent, and what gateways held that let their lease end.
    private mutating func book(_ demand: RateDemand, of gateway: GatewayID, at now: Int64) {
        var lapsed = RateCredit.zero
        var lapsedAt: Int64 = 0
        for (owner, hold) in holds {
            let isOwn = owner == gateway
            guard isOwn ? !demand.isContinuous : hold.expiresAt <= now else { continue }
            lapsed = lapsed + hold.credit
            lapsedAt = max(lapsedAt, min(hold.expiresAt, now))
            holds[owner] = nil
        }
        func charge(_ bucket: inout GCRA, _ capacity: Int64?, lapsed: Int64, spent: Int64) {
            guard let capacity else {
                bucket = GCRA()
                return
            }
            bucket.charge(lapsed, at: lapsedAt, ceiling: now + capacity)
            bucket.charge(spent, at: now, ceiling: now + capacity)
        }
        charge(&requests, demand.capacity.requests, lapsed: lapsed.requests, spent: demand.spent.requests)
        charge(&tokens, demand.capacity.tokens, lapsed: lapsed.tokens, spent: demand.spent.tokens)
    }

    /// What nobody else uses or holds.
    private func room(of unit: RateUnit, _ capacity: Int64, _ gateway: GatewayID, at now: Int64) -> Int64 {
        let others = holds.reduce(Int64(0)) { $0 + ($1.key == gateway ? 0 : $1.value.credit[unit]) }
        switch unit {
        case .requests: return capacity - others - requests.level(at: now)
        case .tokens: return capacity - others - tokens.level(at: now)
        case .concurrency: return capacity - others
        }
    }

    /// How much the demand is short of a unit; 0 where it is not, or where it asks for no more than it keeps.
    private func lack(of unit: RateUnit, _ demand: RateDemand, _ gateway: GatewayID, at now: Int64) -> Int64 {
        guard let capacity = demand.capacity[unit], demand.minimum[unit] > demand.kept[unit] else { return 0 }
        return max(0, demand.minimum[unit] - room(of: unit, capacity, gateway, at: now))
    }

    private mutating func grant(
        _ demand: RateDemand, of gateway: GatewayID, lifetimeMicroseconds: Int64, isRefused: Bool, at now: Int64
    ) -> RateStanding {
        var held = RateCredit.zero
        var free = RateCredit.zero
        // Where somebody was refused a moment ago, nothing is set aside: the last unit can be had from any gateway.
        let isScarce = isRefused || now - refusedAt < lifetimeMicroseconds
        for unit in RateUnit.allCases {
            guard let capacity = demand.capacity[unit] else { continue }
            let room = room(of: unit, capacity, gateway, at: now)
            held[unit] = isRefused ? demand.kept[unit] : max(demand.minimum[unit], demand.kept[unit])
            if !isScarce {
                let spare = max(0, room - held[unit]) / 4
                held[unit] = max(held[unit], min(demand.wanted[unit], held[unit] + spare))
            }
            free[unit] = room - held[unit]
        }
        if isRefused { refusedAt = now }
        holds[gateway] = held == .zero ? nil : Hold(credit: held, expiresAt: now + lifetimeMicroseconds)
        return RateStanding(held: held, free: free)
    }
}
