/// What is known of a model that can be called: its profile, its versions, how they are chosen, and the replicas that serve them.
public struct ModelRoute: Hashable, Sendable {
    public let profile: ModelProfile
    public let replicas: [Replica]
    /// Empty for a model whose versions nobody registered.
    public let versions: [ModelVersion]
    public let rules: RoutingRules

    public init(
        profile: ModelProfile, replicas: [Replica], versions: [ModelVersion] = [], rules: RoutingRules = RoutingRules()
    ) {
        self.profile = profile
        self.replicas = replicas
        self.versions = versions
        self.rules = rules
    }
}

/// Where one request goes.
public struct ResolvedRoute: Sendable {
    /// The real model's, whatever name was asked for; its version is the chosen one.
    public let profile: ModelProfile
    /// The replicas that serve the version; may be empty. One that names no version serves every version.
    public let candidates: [Replica]
    /// Whether a worker has to be told the version: it was asked for by name, or the model has several.
    public let namesVersion: Bool
    /// The field of the body by which callers stay with a version, where there is one.
    public let stickyField: String?
    /// Where a copy of this request goes.
    public internal(set) var mirror: MirrorTarget?

    init(profile: ModelProfile, candidates: [Replica], namesVersion: Bool, stickyField: String?) {
        self.profile = profile
        self.candidates = candidates
        self.namesVersion = namesVersion
        self.stickyField = stickyField
        mirror = nil
    }

    public var model: String { profile.name }
    public var version: String { profile.version }

    /// The version that a replica is told; `nil` leaves it to the worker.
    public func version(for replica: Replica) -> String? {
        if !replica.version.isEmpty { return replica.version }
        return namesVersion && !profile.version.isEmpty ? profile.version : nil
    }
}

/// Where copies go. A reference, because nearly all routes have none.
public final class MirrorTarget: Sendable {
    /// Has no mirror of its own.
    public let route: ResolvedRoute
    let share: UInt64

    init(route: ResolvedRoute, share: Int) {
        self.route = route
        self.share = UInt64(min(max(share, 0), MirrorRule.shareLimit))
    }

    func takes(_ point: UInt64) -> Bool {
        point.multipliedFullWidth(by: UInt64(MirrorRule.shareLimit)).high < share
    }
}

/// Every model and its replicas, frozen: built whole, swapped whole, only read by requests.
public struct RouteTable: Sendable {
    /// Where the replicas came from; shown by the health check.
    public enum Source: String, Sendable {
        case registry
        case redis
    }

    /// One reference, because every request copies the table.
    private final class Contents: Sendable {
        let routes: [String: ModelRoute]
        let routed: [String: RoutedModel]
        let aliases: [String: ModelAlias]

        init(routes: [String: ModelRoute], routed: [String: RoutedModel], aliases: [String: ModelAlias]) {
            self.routes = routes
            self.routed = routed
            self.aliases = aliases
        }
    }

    /// Models and aliases, in order.
    public var names: [String] { (Array(contents.routes.keys) + contents.aliases.keys).sorted() }

    private let contents: Contents
    public let source: Source

    /// - Parameter aliases: those that shadow a model, or that name none, are left out.
    public init(_ routes: [ModelRoute], aliases: [ModelAlias] = [], source: Source) {
        let routes = Dictionary(routes.map { ($0.profile.name, $0) }) { _, last in last }
        self.source = source
        let plain = routes.mapValues { RoutedModel($0, mirror: nil) }
        let routed = routes.reduce(into: plain) { routed, entry in
            guard let rule = entry.value.rules.mirror else { return }
            let target = plain[rule.model ?? entry.key]?.mirrored(rule.version)
            routed[entry.key] = RoutedModel(
                entry.value, mirror: target.map { MirrorTarget(route: $0, share: rule.share) })
        }
        let usable = aliases.filter { routes[$0.name] == nil && routes[$0.model] != nil }
        contents = Contents(
            routes: routes, routed: routed,
            aliases: Dictionary(usable.map { ($0.name, $0) }) { _, last in last })
    }

    public static let empty = RouteTable([], source: .registry)

    public subscript(model: String) -> ModelRoute? { contents.routes[model] }

    /// The same table with each replica as `bind` gives it back.
    public func bindingReplicas(_ bind: (ModelRoute) -> [Replica]) -> RouteTable {
        RouteTable(
            contents.routes.values.map { route in
                ModelRoute(
                    profile: route.profile, replicas: bind(route), versions: route.versions, rules: route.rules)
            }, aliases: aliasList, source: source)
    }

    public var models: [ModelRoute] { contents.routes.values.sorted { $0.profile.name < $1.profile.name } }
    public var aliasList: [ModelAlias] { contents.aliases.values.sorted { $0.name < $1.name } }

    /// The model behind a name; `nil` where there is none.
    public func realModel(of name: String) -> String? {
        contents.routes[name] == nil ? contents.aliases[name]?.model : name
    }

    /// Chooses version and replicas for one request. Pure: what is drawn by chance comes from `draw`.
    /// - Parameters:
    ///   - version: as the request names it, ``ModelVersionName/latest`` included; `nil` where it names none.
    ///   - stickiness: adds what the caller is told apart by to the hash, and says whether there was anything; asked only where requests
    ///     are divided.
    ///   - draw: a number drawn evenly from all 64-bit ones; asked only where chance decides.
    /// - Returns: `nil` where there is no such model, or no such version of it.
    public func resolve(
        model name: String, version: String?, stickiness: (Stickiness, inout StableHash) -> Bool, draw: () -> UInt64
    ) -> ResolvedRoute? {
        var version = version
        let found: RoutedModel
        if let own = contents.routed[name] {
            found = own
        } else if let alias = contents.aliases[name], let target = contents.routed[alias.model] {
            found = target
            if let fixed = alias.version {
                guard version == nil || version == ModelVersionName.latest || version == fixed else { return nil }
                version = fixed
            }
        } else {
            return nil
        }
        guard var route = found.route(version, stickiness: stickiness, draw: draw) else { return nil }
        if let mirror = found.mirror, mirror.takes(draw()),
            // A version is not compared with itself.
            mirror.route.version != route.version || mirror.route.model != route.model
        {
            route.mirror = mirror
        }
        return route
    }
}
