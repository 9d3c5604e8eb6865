public import Domain
internal import Foundation
public import Logging
public import PostgresDriver
public import RedisDriver
internal import Synchronization

/// Reads the route table: the registry in PostgreSQL, and over it the hash `model_routes` in Redis, which an operator may set by hand.
///
/// A model's entry in Redis replaces its registered replicas. Where a source is away, what it said last is used.
public final class RouteStore: RouteSource {
    public static let redisHash = "model_routes"

    private let pool: PostgresPool
    private let redis: RedisClient?
    private let isAllowed: @Sendable (WorkerAddress) -> Bool
    private let logger: Logger
    private let last = Mutex<Last>(Last())

    private struct Last {
        var registry: [ModelRoute] = []
        var redis: [String: [Replica]] = [:]
    }

    /// - Parameters:
    ///   - pool: connections of the role `weir_directory`.
    ///   - isAllowed: which addresses may be called; entries with others are ignored, because whoever can write Redis could name any.
    public init(
        pool: PostgresPool, redis: RedisClient?, isAllowed: @escaping @Sendable (WorkerAddress) -> Bool, logger: Logger
    ) {
        self.pool = pool
        self.redis = redis
        self.isAllowed = isAllowed
        self.logger = logger
    }

    public func load() async -> RouteSnapshot {
        let registry = await readRegistry()
        let (entries, state) = await readRedis()
        var routes: [String: ModelRoute] = [:]
        for route in registry.routes { routes[route.profile.name] = route }
        for (name, replicas) in entries {
            let profile = routes[name]?.profile ?? ModelProfile.unregistered(name)
            routes[name] = ModelRoute(profile: profile, replicas: replicas)
        }
        return RouteSnapshot(
            table: RouteTable(Array(routes.values), source: entries.isEmpty ? .registry : .redis), redis: state,
            isRegistryFresh: registry.isFresh)
    }

    private func readRegistry() async -> (routes: [ModelRoute], isFresh: Bool) {
        do throws(PostgresError) {
            let rows = try await pool.execute(ReadRegistry())
            var routes: [String: ModelRoute] = [:]
            for row in rows {
                let replicas =
                    (routes[row.profile.name]?.replicas ?? [])
                    + (row.replica.flatMap { isAllowed($0.address) ? $0 : nil }.map { [$0] } ?? [])
                routes[row.profile.name] = ModelRoute(profile: row.profile, replicas: replicas)
            }
            let list = Array(routes.values)
            last.withLock { $0.registry = list }
            return (list, true)
        } catch {
            logger.warning("the registry cannot be read", metadata: ["cause": "\(error)"])
            return (last.withLock { $0.registry }, false)
        }
    }

    private func readRedis() async -> ([String: [Replica]], DependencyState) {
        guard let redis else { return ([:], .notConfigured) }
        do throws(RedisError) {
            let fields = try await redis.hgetall(Self.redisHash)
            var entries: [String: [Replica]] = [:]
            for (nameBytes, valueBytes) in fields {
                let name = String(decoding: nameBytes, as: UTF8.self)
                let value = String(decoding: valueBytes, as: UTF8.self)
                guard ModelName.isValid(name.utf8), let replicas = RouteEntry.parse(value) else {
                    logger.warning("a route in redis is unusable", metadata: ["model": "\(name.prefix(64))"])
                    continue
                }
                let allowed = replicas.filter { isAllowed($0.address) }
                // Only an empty list says that a model has no replicas. An entry whose every address is forbidden must not take them away.
                guard !allowed.isEmpty || replicas.isEmpty else {
                    logger.warning(
                        "a route in redis has no address that may be called", metadata: ["model": "\(name.prefix(64))"])
                    continue
                }
                entries[name] = allowed
            }
            last.withLock { $0.redis = entries }
            return (entries, .available)
        } catch {
            return (last.withLock { $0.redis }, .unavailable)
        }
    }
}

extension ModelProfile {
    /// A model that somebody routed by hand without registering it: counted one token a request unless its worker reports more.
    static func unregistered(_ name: String) -> ModelProfile {
        ModelProfile(name: name, version: "", featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 64)
    }
}

/// A value of the hash `model_routes`: `host:port`, or a JSON array of `{address, protocol?, weight?, version?}`.
enum RouteEntry {
    private struct Item: Decodable {
        let address: String
        let `protocol`: String?
        let weight: Int?
        let version: String?
    }

    /// - Returns: `nil` for a value that is neither; a part that is wrong makes the whole value unusable.
    static func parse(_ value: String) -> [Replica]? {
        let text = value.trimmingCharacters(in: .whitespacesAndNewlines)
        // First, because `[::1]:9000` begins like an array.
        if let address = WorkerAddress(text) {
            return [Replica(address: address, workerProtocol: .predict, weight: 1, version: "")]
        }
        guard text.utf8.count <= 65_536, let items = try? JSONDecoder().decode([Item].self, from: Data(text.utf8))
        else { return nil }
        var replicas: [Replica] = []
        for item in items {
            guard let address = WorkerAddress(item.address),
                let workerProtocol = WorkerProtocol(rawValue: item.protocol ?? WorkerProtocol.predict.rawValue),
                (1...1_000).contains(item.weight ?? 1), Self.isVersion(item.version ?? "")
            else { return nil }
            replicas.append(
                Replica(
                    address: address, workerProtocol: workerProtocol, weight: item.weight ?? 1,
                    version: item.version ?? ""))
        }
        return replicas
    }

    private static func isVersion(_ text: String) -> Bool {
        text.isEmpty || text.utf8.count <= 64 && ModelVersionName.isValid(text.utf8)
    }
}

struct ReadRegistry: PostgresStatement {
    struct Entry: Sendable {
        let profile: ModelProfile
        let replica: Replica?
    }

    static let sql = """
        SELECT m.model_name, m.version, m.feature_count, m.fixed_tokens_per_request, m.maximum_output_tokens,
            m.token_counting, m.bytes_per_token, r.address, r.protocol, r.weight, r.version,
            m.cache_enabled, m.cache_ttl_seconds, m.cache_maximum_ttl_seconds, m.cache_sameness, m.cache_levels, m.cache_generations
        FROM model_registry m LEFT JOIN routes r ON r.model_name = m.model_name
        WHERE m.is_active
        ORDER BY m.model_name, r.address
        """
    static let columns: [PostgresType] =
        [
            .text, .text, .int4, .int8, .int8, .text, .int4, .text, .text, .int4, .text,
        ] + CachePolicy.columns

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Entry {
        let name = try row.text()
        let registered = try row.text()
        let featureCount = try row.optionalInt32().map(Int.init)
        let fixedTokens = try row.int64()
        let outputTokens = try row.int64()
        let counting = TokenCounting(rawValue: try row.text()) ?? .worker
        let bytesPerToken = Int64(try row.int32())
        let address = try row.optionalText().flatMap { WorkerAddress($0) }
        let workerProtocol = try row.optionalText().flatMap { WorkerProtocol(rawValue: $0) } ?? .predict
        let weight = try row.optionalInt32() ?? 1
        let version = try row.optionalText() ?? ""
        let profile = ModelProfile(
            name: name, version: registered, featureCount: featureCount, fixedTokensPerRequest: fixedTokens,
            maximumOutputTokens: outputTokens, tokenCounting: counting, bytesPerToken: bytesPerToken,
            cache: try CachePolicy(from: &row))
        return Entry(
            profile: profile,
            replica: address.map {
                Replica(address: $0, workerProtocol: workerProtocol, weight: Int(weight), version: version)
            })
    }
}
