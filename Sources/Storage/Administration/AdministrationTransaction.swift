internal import Domain
internal import PostgresDriver

/// The changes themselves, on a connection with an open transaction. Whoever calls decides what else belongs to the
/// same transaction.
struct AdministrationTransaction {
    let connection: PostgresConnection
    let actor: AuditActor
    let time: any TimeSource

    func newID<Kind>() -> Identifier<Kind> {
        var generator = SystemRandomNumberGenerator()
        return Identifier(at: time.now, using: &generator)
    }

    func audit(
        _ action: String, _ subjectType: String, _ subjectID: String, tenantID: TenantID? = nil, before: String?,
        after: String?
    ) async throws {
        _ = try await connection.execute(
            WriteAudit(
                id: newID(), actor: actor, action: action, subjectType: subjectType, subjectID: subjectID,
                tenantID: tenantID,
                before: before, after: after))
        if let claim = actor.claim {
            _ = try await connection.execute(NameChange(claim: claim, subjectType: subjectType, subjectID: subjectID))
        }
    }

    /// Makes the change under its maker's key, if it has one; whoever sends the same at the same moment waits here for the commit.
    func claim() async throws {
        guard let claim = actor.claim else { return }
        guard try await connection.affectedRows(by: ClaimChange(claim: claim)) == 1 else {
            throw Refusal(
                .idempotencyInProgress,
                "The first request with this key has not been answered yet. Send it again later.",
                retryAfterSeconds: 1)
        }
    }

    // MARK: Tenants

    func createTenant(_ tenant: NewTenant, id: TenantID) async throws -> TenantRow {
        _ = try await connection.execute(InsertTenant(id: id, tenant: tenant))
        try await subscribeNow(id, toTier: tenant.tierCode)
        _ = try await connection.execute(InsertSubscriptionRateLimits(tenantID: id, limits: tenant.rateLimits))
        let after = try await connection.execute(DescribeTenant(id: id)).first
        try await audit("tenant.create", "tenant", id.description, tenantID: id, before: nil, after: after)
        return try await self.tenant(id)
    }

    func changeTenant(_ id: TenantID, _ change: TenantChange) async throws -> TenantRow {
        guard try await !connection.execute(LockTenant(id: id)).isEmpty else { throw Refusal.noSuchTenant }
        let before = try await connection.execute(DescribeTenant(id: id)).first
        if let zone = change.timeZone { try await refuseMixedSchedule(id, inZone: zone) }
        let changesTenant =
            change.name != nil || change.timeZone != nil || change.state != nil || change.retention != nil
            || change.resultTTLSeconds != nil || change.retentionBytes != nil || change.receipts != nil
        if changesTenant {
            _ = try await connection.execute(UpdateTenant(id: id, change: change))
        }
        if let tier = change.tierCode { try await subscribeNow(id, toTier: tier) }
        if let limits = change.rateLimits { try await limit(id, limits) }
        let after = try await connection.execute(DescribeTenant(id: id)).first
        if before != after {
            try await audit("tenant.change", "tenant", id.description, tenantID: id, before: before, after: after)
        }
        return try await tenant(id)
    }

    /// Replaces what the subscription in force says otherwise than its tier.
    private func limit(_ tenantID: TenantID, _ limits: [RateLimitRule]) async throws {
        guard try await !connection.execute(FindSubscription(tenantID: tenantID)).isEmpty else {
            throw Refusal(.conflict, "The tenant has no subscription whose rate limits could change.")
        }
        _ = try await connection.execute(DeleteSubscriptionRateLimits(tenantID: tenantID))
        _ = try await connection.execute(InsertSubscriptionRateLimits(tenantID: tenantID, limits: limits))
    }

    func tenant(_ id: TenantID) async throws -> TenantRow {
        guard let row = try await connection.execute(FindTenant(id: id)).first else { throw Refusal.noSuchTenant }
        return row
    }

    // MARK: Keys

    func createKey(_ key: NewKey, _ fresh: APIKey, digest: [UInt8]) async throws -> KeyRow {
        guard try await !connection.execute(FindTenant(id: key.tenantID)).isEmpty else { throw Refusal.noSuchTenant }
        return try await insertKey(
            InsertKey(
                id: newID(), tenantID: key.tenantID, userID: nil, key: fresh, digest: digest, name: key.name,
                scopes: key.scopes,
                allowedModels: key.allowedModels, expiresAt: key.expiresAt),
            rateLimits: key.rateLimits)
    }

    func insertKey(_ statement: InsertKey, rateLimits: [RateLimitRule] = []) async throws -> KeyRow {
        _ = try await connection.execute(statement)
        _ = try await connection.execute(InsertKeyRateLimits(keyID: statement.id, limits: rateLimits))
        guard let row = try await connection.execute(FindKey(key: .id(statement.id))).first else {
            throw Refusal.noSuchKey
        }
        let after = try await connection.execute(DescribeKey(id: row.id)).first
        try await audit("key.create", "key", row.id.description, tenantID: row.tenantID, before: nil, after: after)
        return row
    }

    func changeKey(_ key: KeyReference, _ change: KeyChange) async throws -> KeyRow {
        guard let found = try await connection.execute(FindKey(key: key)).first else { throw Refusal.noSuchKey }
        guard found.tenantID != nil else {
            throw Refusal(.conflict, "An admin key has no rate limits. Take a customer's key.")
        }
        _ = try await connection.execute(LockKey(id: found.id))
        let before = try await connection.execute(DescribeKey(id: found.id)).first
        _ = try await connection.execute(DeleteKeyRateLimits(keyID: found.id))
        _ = try await connection.execute(InsertKeyRateLimits(keyID: found.id, limits: change.rateLimits))
        let after = try await connection.execute(DescribeKey(id: found.id)).first
        if before != after {
            try await audit(
                "key.change", "key", found.id.description, tenantID: found.tenantID, before: before, after: after)
        }
        return try await self.key(found.id)
    }

    func revokeKey(_ key: KeyReference) async throws -> KeyRow {
        guard let found = try await connection.execute(FindKey(key: key)).first else { throw Refusal.noSuchKey }
        if let publicID = APIKey.PublicID(found.publicID), actor == .key(publicID) {
            throw Refusal(.conflict, "This is the key that you are using. Revoke it with another one.")
        }
        guard found.revokedAt == nil else { return found }
        let before = try await connection.execute(DescribeKey(id: found.id)).first
        // Nobody is told of a revocation that another transaction has made meanwhile: it has its own entry.
        guard try await connection.affectedRows(by: RevokeKey(id: found.id)) == 1 else {
            return try await self.key(found.id)
        }
        let after = try await connection.execute(DescribeKey(id: found.id)).first
        try await audit(
            "key.revoke", "key", found.id.description, tenantID: found.tenantID, before: before, after: after)
        return try await self.key(found.id)
    }

    private func key(_ id: KeyID) async throws -> KeyRow {
        guard let row = try await connection.execute(FindKey(key: .id(id))).first else { throw Refusal.noSuchKey }
        return row
    }

    // MARK: Models and routes

    func registerModel(_ model: ModelProfile) async throws -> ModelProfile {
        _ = try await connection.execute(LockModelNames())
        guard try await connection.execute(FindAlias(name: model.name)).isEmpty else {
            throw Refusal(.conflict, "There is an alias \(model.name). Delete it first, or take another name.")
        }
        guard try await connection.affectedRows(by: InsertModel(model: model)) == 1 else {
            throw Refusal(.conflict, "There is a model \(model.name) already.")
        }
        if !model.version.isEmpty {
            _ = try await connection.execute(
                UpsertModelVersion(model: model.name, version: ModelVersion(name: model.version)))
        }
        if model.cache != .off {
            _ = try await connection.execute(SetCachePolicy(model: model.name, policy: model.cache))
        }
        let after = try await connection.execute(DescribeModel(name: model.name)).first
        try await audit("model.register", "model", model.name, before: nil, after: after)
        return model
    }

    func setDelivery(of model: String, _ settings: DeliverySettings) async throws -> ModelProfile {
        guard try await !connection.execute(LockModel(name: model)).isEmpty else {
            throw Refusal(.notFound, "There is no model \(model). Register it first: POST /admin/v1/models.")
        }
        let before = try await connection.execute(DescribeModel(name: model)).first
        guard let profile = try await connection.execute(SetDelivery(model: model, settings: settings)).first else {
            throw Refusal(.notFound, "There is no model \(model). Register it first: POST /admin/v1/models.")
        }
        let after = try await connection.execute(DescribeModel(name: model)).first
        try await audit("model.delivery", "model", model, before: before, after: after)
        return profile
    }

    func setRoute(_ model: String, _ replicas: [Replica]) async throws -> RouteRow {
        guard try await !connection.execute(LockModel(name: model)).isEmpty else {
            throw Refusal(.notFound, "There is no model \(model). Register it first: POST /admin/v1/models.")
        }
        let before = try await connection.execute(DescribeRoute(model: model)).first ?? nil
        _ = try await connection.execute(DeleteReplicas(model: model))
        _ = try await connection.execute(InsertReplicas(model: model, replicas: replicas))
        let after = try await connection.execute(DescribeRoute(model: model)).first ?? nil
        try await audit("route.set", "route", model, before: before, after: after)
        guard let row = try await connection.execute(FindRoute(model: model)).first else {
            throw Refusal.invalid("/replicas", "There must be at least one.", fix: "To take a route away, delete it.")
        }
        return row
    }

    func deleteRoute(_ model: String) async throws {
        _ = try await connection.execute(LockModel(name: model))
        let before = try await connection.execute(DescribeRoute(model: model)).first ?? nil
        guard try await connection.affectedRows(by: DeleteReplicas(model: model)) > 0 else {
            throw Refusal(.notFound, "The model \(model) has no route.")
        }
        try await audit("route.delete", "route", model, before: before, after: nil)
    }
}
