public import Domain
public import PostgresDriver

/// The operator's changes and lists. Changes run as the role `weir_admin`, reports over usage as `weir_reports`.
public struct AdministrationStore: Administration {
    private let pool: PostgresPool
    let reports: PostgresPool
    private let digest: KeyDigest
    let signingSeal: SecretSeal
    private let time: any TimeSource

    /// - Parameters:
    ///   - pool: connections of the role `weir_admin`.
    ///   - reports: connections of the role `weir_reports`.
    ///   - pepper: the secret under which keys are digested, the gateway's.
    public init(pool: PostgresPool, reports: PostgresPool, pepper: [UInt8], time: any TimeSource) {
        self.pool = pool
        self.reports = reports
        digest = KeyDigest(pepper: pepper)
        signingSeal = SecretSeal(pepper: pepper, purpose: .signingKeys)
        self.time = time
    }

    // MARK: Tenants

    public func createTenant(_ tenant: NewTenant, by actor: AuditActor) async throws(AdministrationFailure) -> TenantRow
    {
        try await change(actor) { change in try await change.createTenant(tenant, id: change.newID()) }
    }

    public func tenants(_ page: PageRequest<TenantID>) async throws(AdministrationFailure) -> Page<TenantRow> {
        try await list(ListTenants(page: page), page)
    }

    public func tenant(_ id: TenantID) async throws(AdministrationFailure) -> TenantRow {
        guard let row = try await read(FindTenant(id: id)).first else { throw .refused(.noSuchTenant) }
        return row
    }

    public func changeTenant(
        _ id: TenantID, _ change: TenantChange, by actor: AuditActor
    ) async throws(AdministrationFailure) -> TenantRow {
        try await self.change(actor) { transaction in try await transaction.changeTenant(id, change) }
    }

    // MARK: Keys

    public func createKey(_ key: NewKey, by actor: AuditActor) async throws(AdministrationFailure) -> CreatedKey {
        var generator = SystemRandomNumberGenerator()
        let fresh = APIKey(environment: key.environment, using: &generator)
        let row = try await change(actor) { change in try await change.createKey(key, fresh, digest: digest(fresh)) }
        return CreatedKey(row: row, key: fresh)
    }

    public func keys(of tenantID: TenantID, _ page: PageRequest<KeyID>) async throws(AdministrationFailure) -> Page<
        KeyRow
    > {
        _ = try await tenant(tenantID)
        return try await list(ListKeys(tenantID: tenantID, page: page), page)
    }

    public func changeKey(
        _ key: KeyReference, _ change: KeyChange, by actor: AuditActor
    ) async throws(AdministrationFailure) -> KeyRow {
        try await self.change(actor) { transaction in try await transaction.changeKey(key, change) }
    }

    public func revokeKey(_ key: KeyReference, by actor: AuditActor) async throws(AdministrationFailure) -> KeyRow {
        try await change(actor) { change in try await change.revokeKey(key) }
    }

    // MARK: Models and routes

    public func registerModel(_ model: ModelProfile, by actor: AuditActor) async throws(AdministrationFailure)
        -> ModelProfile
    {
        try await change(actor) { change in try await change.registerModel(model) }
    }

    public func setDelivery(
        of model: String, _ settings: DeliverySettings, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelProfile {
        try await change(actor) { change in try await change.setDelivery(of: model, settings) }
    }

    public func models(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<ModelProfile> {
        try await list(ListModels(page: page), page)
    }

    public func setRoute(
        _ model: String, _ replicas: [Replica], by actor: AuditActor
    ) async throws(AdministrationFailure) -> RouteRow {
        try await change(actor) { change in try await change.setRoute(model, replicas) }
    }

    public func deleteRoute(_ model: String, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.deleteRoute(model) }
    }

    public func routes(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<RouteRow> {
        try await list(ListRoutes(page: page), page)
    }

    // MARK: Reports

    public func usage(_ query: TotalUsageQuery) async throws(AdministrationFailure) -> [TenantUsageRow] {
        try await read(ReadTotalUsage(query: query), from: reports)
    }

    public func timeZones() async throws(AdministrationFailure) -> [String] {
        try await read(ListTimeZones(), from: reports)
    }

    public func audit(_ query: AuditQuery) async throws(AdministrationFailure) -> Page<AuditRow> {
        try await list(ListAudit(query: query), query.page)
    }

    // MARK: Parts

    func change<T>(
        _ actor: AuditActor, _ body: (AdministrationTransaction) async throws -> T
    ) async throws(AdministrationFailure) -> T {
        do {
            return try await pool.transaction { connection in
                let change = AdministrationTransaction(connection: connection, actor: actor, time: time)
                try await change.claim()
                return try await body(change)
            }
        } catch {
            throw AdministrationFailure(error)
        }
    }

    func read<S: PostgresStatement>(
        _ statement: S, from other: PostgresPool? = nil
    ) async throws(AdministrationFailure) -> [S.Row] {
        do throws(PostgresError) {
            return try await (other ?? pool).execute(statement)
        } catch {
            throw AdministrationFailure(error)
        }
    }

    /// Statements of lists ask for one row more than the page has, which tells whether there is more.
    func list<S: PostgresStatement>(
        _ statement: S, _ page: PageRequest<some Sendable>
    ) async throws(AdministrationFailure) -> Page<S.Row> {
        var rows = try await read(statement)
        let hasMore = rows.count > page.limit
        // Ahead of `before` the surplus row is the first one, everywhere else the last.
        if hasMore { if page.before == nil { rows.removeLast() } else { rows.removeFirst() } }
        return Page(rows, hasMore: hasMore)
    }
}

extension AdministrationFailure {
    init(_ error: PostgresTransactionError) {
        if let refusal = error.body as? Refusal {
            self = .refused(refusal)
        } else if let cause = error.cause {
            self.init(cause)
        } else {
            // The body throws nothing but refusals, the driver's errors and cancellation.
            self = .unavailable(StoreUnavailable(cause: "cancelled"))
        }
    }

    /// A statement that the server refuses for good is a defect of ours and must not look like an outage.
    init(_ error: PostgresError) {
        let isOutOfTime = error.sqlState == "57014"
        switch error.code {
        case .serverError where error.sqlState == "23505":
            self = .refused(
                Refusal(.conflict, "Somebody made the same thing at the same moment.", cause: error.description))
        case .serverError where !error.isTransient && !isOutOfTime, .encoding, .decoding, .protocolViolation:
            self = .refused(
                Refusal(.internalError, "Something failed on our side. Nothing was changed.", cause: error.description))
        default:
            self = .unavailable(StoreUnavailable(error))
        }
    }
}

extension Refusal {
    static let noSuchTenant = Refusal(.notFound, "There is no such tenant.")
    static let noSuchKey = Refusal(.notFound, "There is no such key.")

    static func noSuchTier(_ code: String) -> Refusal {
        .invalid(
            "/tier", "There is no tier \(code) with a version in force that this tenant may take.",
            fix: "Take a code from GET /admin/v1/tiers.")
    }
}
