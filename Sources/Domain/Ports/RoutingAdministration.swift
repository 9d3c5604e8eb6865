/// What the operator changes about versions, aliases and workers. Each verb is one transaction with its entry in the audit log; a heartbeat
/// is no change and has none.
public protocol RoutingAdministration: Sendable {
    /// - Throws: `not_found`.
    func modelRouting(_ model: String) async throws(AdministrationFailure) -> ModelRoutingRow
    /// - Throws: `not_found`; `validation_failed` for a version that is not registered and active, or a mirror that is not there.
    func changeModelRouting(
        _ model: String, _ change: ModelRoutingChange, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelRoutingRow
    /// Registers a version, or changes one. What it says otherwise than its model is replaced whole; its weight stays.
    /// - Throws: `not_found`; `conflict` for retiring a version that is pinned, weighted, mirrored to or named by an alias.
    func setModelVersion(
        _ model: String, _ version: ModelVersion, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelRoutingRow

    /// By name.
    func aliases(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<ModelAlias>
    /// Makes an alias or gives it another target.
    /// - Throws: `conflict` where a model has the name; `validation_failed` for a model or version that is not there.
    func setAlias(_ alias: ModelAlias, by actor: AuditActor) async throws(AdministrationFailure) -> ModelAlias
    /// - Throws: `not_found`.
    func deleteAlias(_ name: String, by actor: AuditActor) async throws(AdministrationFailure)

    /// Newest first, expired ones included until they are removed.
    func workers(_ page: PageRequest<WorkerID>) async throws(AdministrationFailure) -> Page<WorkerRow>
    /// Puts a worker into the table of routes. One with the same model, version and address takes the place of the one before.
    /// - Throws: `not_found` for an unknown model; `validation_failed` for a version that its model does not have.
    func registerWorker(_ worker: NewWorker, by actor: AuditActor) async throws(AdministrationFailure) -> WorkerRow
    /// Keeps a worker in the table for another time to live.
    /// - Throws: `not_found` for a worker that has left, or whose place another one has taken: it registers anew.
    func renewWorker(_ id: WorkerID) async throws(AdministrationFailure) -> WorkerRow
    /// - Throws: `not_found`.
    func removeWorker(_ id: WorkerID, by actor: AuditActor) async throws(AdministrationFailure)
}

/// How a model's requests find a version, with the versions and names that there are.
public struct ModelRoutingRow: Hashable, Sendable {
    public let model: String
    public let rules: RoutingRules
    /// In their order, the greatest last.
    public let versions: [ModelVersion]
    public let aliases: [ModelAlias]

    public init(model: String, rules: RoutingRules, versions: [ModelVersion], aliases: [ModelAlias]) {
        self.model = model
        self.rules = rules
        self.versions = versions
        self.aliases = aliases
    }
}

/// What becomes of one value.
public enum ValueChange<Value: Hashable & Sendable>: Hashable, Sendable {
    case keep
    case clear
    case set(Value)

    public func applied(to value: Value?) -> Value? {
        switch self {
        case .keep: value
        case .clear: nil
        case .set(let new): new
        }
    }
}

/// What becomes of a model's routing.
public struct ModelRoutingChange: Hashable, Sendable {
    public var defaultVersion = ValueChange<String>.keep
    /// `nil` leaves it as it is.
    public var stickiness: Stickiness?
    public var mirror = ValueChange<MirrorRule>.keep
    /// Replaces all weights; `nil` leaves them, an empty list ends the division of requests.
    public var shares: [TrafficSplit.Share]?

    public init() {}
}

/// A worker that says that it is there.
public struct NewWorker: Hashable, Sendable {
    /// Seconds that a worker may be silent.
    public static let lifetimeSeconds: ClosedRange<Int64> = 2...3_600

    public let model: String
    public let replica: Replica
    public let lifetimeSeconds: Int

    public init(model: String, replica: Replica, lifetimeSeconds: Int) {
        self.model = model
        self.replica = replica
        self.lifetimeSeconds = lifetimeSeconds
    }
}

public struct WorkerRow: Hashable, Sendable {
    public let id: WorkerID
    public let model: String
    public let replica: Replica
    public let lifetimeSeconds: Int
    public let registeredAt: Timestamp
    /// From then on it gets no requests, unless it is renewed before.
    public let expiresAt: Timestamp
    /// By the database's clock, when the row was read.
    public let isExpired: Bool

    public init(
        id: WorkerID, model: String, replica: Replica, lifetimeSeconds: Int, registeredAt: Timestamp,
        expiresAt: Timestamp, isExpired: Bool
    ) {
        self.id = id
        self.model = model
        self.replica = replica
        self.lifetimeSeconds = lifetimeSeconds
        self.registeredAt = registeredAt
        self.expiresAt = expiresAt
        self.isExpired = isExpired
    }

    /// How often the worker should say that it is there: three times in its time to live, so that one may be lost.
    public var heartbeatSeconds: Int { max(1, lifetimeSeconds / 3) }
}
