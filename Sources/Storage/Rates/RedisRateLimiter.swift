public import Domain
public import RedisDriver

/// Rate limits that all gateways of an installation share, in Redis.
public struct RedisRateLimiter: RateLimiter {
    private let redis: RedisClient
    private let gateway: String
    private let lifetimeMicroseconds: Int64
    private let script: RedisScript

    public init(redis: RedisClient, gatewayID: GatewayID, leaseMilliseconds: Int64) {
        self.init(
            redis: redis, gatewayID: gatewayID, leaseMilliseconds: leaseMilliseconds, source: RateScript.source())
    }

    /// - Parameter source: of the script; one with a clock of its own in tests.
    init(redis: RedisClient, gatewayID: GatewayID, leaseMilliseconds: Int64, source: String) {
        self.redis = redis
        gateway = gatewayID.description
        lifetimeMicroseconds = leaseMilliseconds * 1_000
        script = RedisScript(source)
    }

    /// The key of a scope. The braces make a cluster keep all keys of a tenant on one node, because one script changes them together.
    static func key(_ tenantID: TenantID, _ keyID: KeyID?) -> String {
        "weir:rate:{\(tenantID)}" + (keyID.map { ":\($0)" } ?? "")
    }

    public func exchange(_ tenantID: TenantID, _ demands: [RateDemand]) async throws(StoreUnavailable) -> RateAnswer {
        var arguments = [Array(gateway.utf8), Self.text(lifetimeMicroseconds)]
        arguments.reserveCapacity(2 + demands.count * 15)
        for demand in demands { Self.append(demand, to: &arguments) }
        do throws(RedisError) {
            // Who asks for nothing asks whether Redis is there. With one connection back and another not, requests would be counted now
            // here, now there.
            if demands.isEmpty { try await redis.warmUp() }
            let value = try await redis.evaluate(
                script, keys: demands.map { Self.key(tenantID, $0.keyID) }, arguments: arguments)
            guard let answer = Self.read(value, count: demands.count) else {
                throw .unexpectedReply(expected: "an exchange")
            }
            return answer
        } catch {
            throw StoreUnavailable(cause: "\(error)")
        }
    }

    private static func append(_ demand: RateDemand, to arguments: inout [[UInt8]]) {
        for unit in RateUnit.allCases { arguments.append(text(demand.capacity[unit] ?? -1)) }
        arguments.append(text(demand.isContinuous ? 1 : 0))
        arguments.append(text(demand.spent.requests))
        arguments.append(text(demand.spent.tokens))
        for credit in [demand.kept, demand.minimum, demand.wanted] {
            for unit in RateUnit.allCases { arguments.append(text(credit[unit])) }
        }
    }

    private static func text(_ value: Int64) -> [UInt8] { Array(String(value).utf8) }

    private static func read(_ value: RedisValue, count: Int) -> RateAnswer? {
        guard let numbers = value.array?.compactMap(\.integer), numbers.count == 4 + 6 * count else { return nil }
        var shortage: RateAnswer.Shortage?
        if numbers[0] == 0 {
            guard (1...3).contains(numbers[2]), (1...Int64(count)).contains(numbers[1]) else { return nil }
            shortage = RateAnswer.Shortage(
                demand: Int(numbers[1]) - 1, unit: RateUnit.allCases[Int(numbers[2]) - 1],
                waitMicroseconds: numbers[3])
        }
        return RateAnswer(
            shortage: shortage,
            standings: (0..<count).map { index in
                let base = 4 + 6 * index
                return RateStanding(
                    held: RateCredit(
                        requests: numbers[base], tokens: numbers[base + 1], concurrency: numbers[base + 2]),
                    free: RateCredit(
                        requests: numbers[base + 3], tokens: numbers[base + 4], concurrency: numbers[base + 5]))
            })
    }
}
