/// A registered version of a model, with what it says otherwise than the model's own profile.
public struct ModelVersion: Hashable, Sendable {
    public enum State: String, Sendable, CaseIterable {
        case active
        /// Known, and not called any more.
        case retired
    }

    public let name: String
    public let state: State
    /// Its share where requests that name no version are divided, 0 to 10,000; `nil` where it has no part in that.
    public let weight: Int?
    public let overrides: ProfileOverrides

    public init(
        name: String, state: State = .active, weight: Int? = nil, overrides: ProfileOverrides = ProfileOverrides()
    ) {
        self.name = name
        self.state = state
        self.weight = weight
        self.overrides = overrides
    }
}

/// Fields of a profile that one version has of its own; `nil` leaves the model's.
public struct ProfileOverrides: Hashable, Sendable {
    public var featureCount: Int?
    public var fixedTokensPerRequest: Int64?
    public var maximumOutputTokens: Int64?
    public var tokenCounting: TokenCounting?
    public var bytesPerToken: Int64?

    public init() {}
}

extension ModelProfile {
    /// The profile of one version.
    func version(_ name: String, _ overrides: ProfileOverrides = ProfileOverrides()) -> ModelProfile {
        var profile = self
        profile.version = name
        if let value = overrides.featureCount { profile.featureCount = value }
        if let value = overrides.fixedTokensPerRequest { profile.fixedTokensPerRequest = value }
        if let value = overrides.maximumOutputTokens { profile.maximumOutputTokens = value }
        if let value = overrides.tokenCounting { profile.tokenCounting = value }
        if let value = overrides.bytesPerToken { profile.bytesPerToken = value }
        return profile
    }
}

/// A second name of a model, or of one version of it.
public struct ModelAlias: Hashable, Sendable {
    public let name: String
    /// A model, never another alias.
    public let model: String
    /// `nil` for the version that requests for the model get. Else requests under this name get this one and no other.
    public let version: String?

    public init(name: String, model: String, version: String? = nil) {
        self.name = name
        self.model = model
        self.version = version
    }
}

/// Where copies of a model's requests are sent, besides the requests themselves.
public struct MirrorRule: Hashable, Sendable {
    /// The greatest share, which means all.
    public static let shareLimit = 10_000

    /// `nil` for another version of the same model.
    public let model: String?
    /// `nil` for the version in service of the other model.
    public let version: String?
    /// Of ten thousand requests, how many are copied; 1 to ``shareLimit``.
    public let share: Int

    public init(model: String?, version: String?, share: Int) {
        self.model = model
        self.version = version
        self.share = share
    }
}

/// How a model's requests find a version.
public struct RoutingRules: Hashable, Sendable {
    /// The version of requests that name none; `nil` leaves it to the weights, and without weights to the greatest version.
    public var defaultVersion: String?
    public var stickiness = Stickiness.none
    public var mirror: MirrorRule?

    public init(defaultVersion: String? = nil, stickiness: Stickiness = .none, mirror: MirrorRule? = nil) {
        self.defaultVersion = defaultVersion
        self.stickiness = stickiness
        self.mirror = mirror
    }
}
