public import Domain
internal import Foundation
public import Logging
public import PostgresDriver
public import RedisDriver
internal import Synchronization

/// Reads the route table: the registry in PostgreSQL, and over it the hash `model_routes` in Redis, which an operator may set by hand.
///
/// A model's entry in Redis replaces its registered replicas, those that registered themselves included, and nothing else of the model. Where a
/// source is away, what it said last is used. Redis is not trusted: an entry cannot name an address outside the operator's networks, nor
/// take a registered name for something else.
public final class RouteStore: RouteSource {
    public static let redisHash = "model_routes"

    private let pool: PostgresPool
    private let redis: RedisClient?
    private let isAllowed: @Sendable (WorkerAddress) -> Bool
    private let logger: Logger
    private let last = Mutex<Last>(Last())

    private struct Last {
        var registry: [ReadRegistry.Entry] = []
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
        for entry in registry.entries { routes[entry.route.profile.name] = entry.route }
        let aliases = registry.entries.flatMap(\.aliases)
        let taken = Set(aliases.map(\.name))
        for (name, replicas) in entries {
            guard !taken.contains(name) else {
                logger.warning("a route in redis has the name of an alias", metadata: ["model": "\(name)"])
                continue
            }
            let registered = routes[name]
            routes[name] = ModelRoute(
                profile: registered?.profile ?? .unregistered(name), replicas: replicas,
                versions: registered?.versions ?? [], rules: registered?.rules ?? RoutingRules())
        }
        return RouteSnapshot(
            table: RouteTable(
                Array(routes.values), aliases: aliases, source: entries.isEmpty ? .registry : .redis),
            redis: state, isRegistryFresh: registry.isFresh)
    }

    private func readRegistry() async -> (entries: [ReadRegistry.Entry], isFresh: Bool) {
        do throws(PostgresError) {
            let entries = try await pool.execute(ReadRegistry()).map { entry in
                ReadRegistry.Entry(
                    route: ModelRoute(
                        profile: entry.route.profile, replicas: entry.route.replicas.filter { isAllowed($0.address) },
                        versions: entry.route.versions, rules: entry.route.rules),
                    aliases: entry.aliases)
            }
            last.withLock { $0.registry = entries }
            return (entries, true)
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
        text.isEmpty
            || text.utf8.count <= 64 && text != ModelVersionName.latest && ModelVersionName.isValid(text.utf8)
    }
}
