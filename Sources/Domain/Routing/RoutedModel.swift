/// One model of the table with all its choices made as far as they do not depend on the request.
final class RoutedModel: Sendable {
    let mirror: MirrorTarget?
    private let name: String
    private let stickiness: Stickiness
    private let byVersion: [String: ResolvedRoute]
    private let retired: Set<String>
    private let isRegistered: Bool
    /// For requests that name no version, where the version does not depend on them; `nil` where all versions are retired.
    private let usual: ResolvedRoute?
    private let latest: ResolvedRoute?
    private let split: TrafficSplit?
    private let splitRoutes: [ResolvedRoute]
    /// For a version that nobody registered.
    private let profile: ModelProfile
    private let unversioned: [Replica]

    init(_ route: ModelRoute, mirror: MirrorTarget?) {
        self.mirror = mirror
        name = route.profile.name
        stickiness = route.rules.stickiness
        profile = route.profile
        let active = route.versions.filter { $0.state == .active }
        let retired = Set(route.versions.filter { $0.state == .retired }.map(\.name))
        self.retired = retired
        isRegistered = !route.versions.isEmpty
        unversioned = route.replicas.filter { $0.version.isEmpty }
        let unregistered = Set(route.replicas.map(\.version)).subtracting(active.map(\.name)).subtracting(retired)
            .subtracting([""])
        let field: String? = if case .field(let field) = route.rules.stickiness { field } else { nil }
        let isOne = active.count + unregistered.count < 2

        func resolved(_ profile: ModelProfile, names: Bool) -> ResolvedRoute {
            ResolvedRoute(
                profile: profile,
                candidates: route.replicas.filter { $0.version.isEmpty || $0.version == profile.version },
                namesVersion: names, stickyField: field)
        }
        var byVersion: [String: ResolvedRoute] = [:]
        for version in active {
            byVersion[version.name] = resolved(route.profile.version(version.name, version.overrides), names: true)
        }
        for version in unregistered { byVersion[version] = resolved(route.profile.version(version), names: true) }
        self.byVersion = byVersion

        // A version that no replica serves does not become the latest by being registered; its first worker makes it that.
        let served = active.map(\.name).filter { byVersion[$0]?.candidates.isEmpty == false }
        let latestName =
            VersionRank.latest(of: served) ?? VersionRank.latest(of: unregistered)
            ?? VersionRank.latest(of: active.map(\.name))
        let latest: ResolvedRoute?
        if let latestName, let found = byVersion[latestName] {
            // The one version that there is need not be named: a worker that was never told of versions serves it.
            latest = isOne ? resolved(found.profile, names: false) : found
        } else {
            // What is retired is not called, whether it is named or not.
            latest = retired.isEmpty ? resolved(route.profile, names: false) : nil
        }
        self.latest = latest
        let pinned = route.rules.defaultVersion.flatMap { byVersion[$0] }
        usual = pinned ?? latest
        let shares = active.filter { $0.weight != nil }.sorted { VersionRank($0.name) < VersionRank($1.name) }
            .map { TrafficSplit.Share(version: $0.name, weight: $0.weight ?? 0) }
        split = pinned == nil ? TrafficSplit(shares) : nil
        splitRoutes = shares.compactMap { byVersion[$0.version] }
    }

    /// - Returns: `nil` where there is no such version.
    func route(
        _ version: String?, stickiness feed: (Stickiness, inout StableHash) -> Bool, draw: () -> UInt64
    ) -> ResolvedRoute? {
        if let version { return exact(version) }
        guard let split else { return usual }
        if stickiness != .none {
            var hash = StableHash()
            // So that one caller is not first in every model's line.
            hash.combine(name.utf8)
            hash.combine(0)
            if feed(stickiness, &hash) { return splitRoutes[split.index(at: hash.value)] }
        }
        return splitRoutes[split.index(at: draw())]
    }

    /// The version that a mirror names, or the one of requests that name none, without chance.
    func mirrored(_ version: String?) -> ResolvedRoute? { version.map(exact) ?? usual }

    private func exact(_ version: String) -> ResolvedRoute? {
        if version == ModelVersionName.latest { return latest }
        if let known = byVersion[version] { return known }
        guard !isRegistered, !retired.contains(version) else { return nil }
        // Nobody said which versions there are: a worker that was not told of any decides.
        return ResolvedRoute(
            profile: profile.version(version), candidates: unversioned, namesVersion: true, stickyField: stickyField)
    }

    private var stickyField: String? { usual?.stickyField }
}
