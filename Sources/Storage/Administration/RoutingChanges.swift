public import Domain
internal import PostgresDriver

extension AdministrationTransaction {
    func changeModelRouting(_ model: String, _ change: ModelRoutingChange) async throws -> ModelRoutingRow {
        let old = try await lockedRouting(model)
        let before = try await connection.execute(DescribeModelRouting(model: model)).first
        var rules = old.rules
        rules.defaultVersion = change.defaultVersion.applied(to: rules.defaultVersion)
        rules.mirror = change.mirror.applied(to: rules.mirror)
        if let stickiness = change.stickiness { rules.stickiness = stickiness }
        let active = Set(old.versions.filter { $0.state == .active }.map(\.name))
        if case .set(let version) = change.defaultVersion, !active.contains(version) {
            throw Refusal.noSuchVersion("/default_version", version, model)
        }
        if let unknown = change.shares?.first(where: { !active.contains($0.version) }) {
            throw Refusal.noSuchVersion("/split", unknown.version, model)
        }
        if case .set(let mirror) = change.mirror { try await check(mirror, of: model) }
        _ = try await connection.execute(UpdateModelRouting(model: model, rules: rules))
        if let shares = change.shares { _ = try await connection.execute(SetWeights(model: model, shares: shares)) }
        return try await changedRouting(model, "model.route", before: before)
    }

    private func check(_ mirror: MirrorRule, of model: String) async throws {
        let target = mirror.model ?? model
        guard let routing = try await connection.execute(FindModelRouting(model: target)).first else {
            throw Refusal.invalid(
                "/mirror/model", "There is no model \(target).", fix: "Register it first: POST /admin/v1/models.")
        }
        if let version = mirror.version, version != ModelVersionName.latest,
            !routing.versions.contains(where: { $0.name == version && $0.state == .active })
        {
            throw Refusal.noSuchVersion("/mirror/version", version, target)
        }
    }

    func setModelVersion(_ model: String, _ version: ModelVersion) async throws -> ModelRoutingRow {
        _ = try await lockedRouting(model)
        let before = try await connection.execute(DescribeModelRouting(model: model)).first
        if version.state == .retired,
            try await connection.execute(IsVersionInUse(model: model, version: version.name)).first == true
        {
            throw Refusal(
                .conflict,
                "The version \(version.name) is pinned, has a weight, is mirrored to or has an alias. Change that first."
            )
        }
        _ = try await connection.execute(UpsertModelVersion(model: model, version: version))
        return try await changedRouting(model, "model.version", before: before)
    }

    private func lockedRouting(_ model: String) async throws -> ModelRoutingRow {
        guard try await !connection.execute(LockModel(name: model)).isEmpty,
            let row = try await connection.execute(FindModelRouting(model: model)).first
        else { throw Refusal.noSuchModel(model) }
        return row
    }

    private func changedRouting(_ model: String, _ action: String, before: String?) async throws -> ModelRoutingRow {
        guard let row = try await connection.execute(FindModelRouting(model: model)).first else {
            throw Refusal.noSuchModel(model)
        }
        let after = try await connection.execute(DescribeModelRouting(model: model)).first
        if before != after { try await audit(action, "model", model, before: before, after: after) }
        return row
    }

    // MARK: Aliases

    func setAlias(_ alias: ModelAlias) async throws -> ModelAlias {
        _ = try await connection.execute(LockModelNames())
        guard try await connection.execute(FindModelName(name: alias.name)).isEmpty else {
            throw Refusal(.conflict, "There is a model \(alias.name). An alias cannot take its name.")
        }
        guard try await !connection.execute(LockModel(name: alias.model)).isEmpty,
            let routing = try await connection.execute(FindModelRouting(model: alias.model)).first
        else {
            let isAlias = try await !connection.execute(FindAlias(name: alias.model)).isEmpty
            throw Refusal.invalid(
                "/model", isAlias ? "\(alias.model) is an alias itself." : "There is no model \(alias.model).",
                fix: "Name a registered model.")
        }
        if let version = alias.version,
            !routing.versions.contains(where: { $0.name == version && $0.state == .active })
        {
            throw Refusal.noSuchVersion("/version", version, alias.model)
        }
        let before = try await connection.execute(DescribeAlias(name: alias.name)).first
        _ = try await connection.execute(UpsertAlias(alias: alias))
        let after = try await connection.execute(DescribeAlias(name: alias.name)).first
        if before != after { try await audit("alias.set", "alias", alias.name, before: before, after: after) }
        return alias
    }

    func deleteAlias(_ name: String) async throws {
        let before = try await connection.execute(DescribeAlias(name: name)).first
        guard try await connection.affectedRows(by: DeleteAlias(name: name)) > 0 else {
            throw Refusal(.notFound, "There is no alias \(name).")
        }
        try await audit("alias.delete", "alias", name, before: before, after: nil)
    }

    // MARK: Workers

    func registerWorker(_ worker: NewWorker) async throws -> WorkerRow {
        let routing = try await lockedRouting(worker.model)
        let version = worker.replica.version
        guard version.isEmpty || routing.versions.isEmpty || routing.versions.contains(where: { $0.name == version })
        else { throw Refusal.noSuchVersion("/version", version, worker.model) }
        _ = try await connection.execute(RemoveExpiredWorkers())
        let before = try await connection.execute(DescribeWorker(id: nil, worker: worker)).first
        guard let row = try await connection.execute(UpsertWorker(id: newID(), worker: worker)).first else {
            throw Refusal.noSuchWorker
        }
        let after = try await connection.execute(DescribeWorker(id: row.id, worker: nil)).first
        try await audit("worker.register", "worker", row.id.description, before: before, after: after)
        return row
    }

    func renewWorker(_ id: WorkerID) async throws -> WorkerRow {
        guard let row = try await connection.execute(RenewWorker(id: id)).first else { throw Refusal.noSuchWorker }
        return row
    }

    func removeWorker(_ id: WorkerID) async throws {
        let before = try await connection.execute(DescribeWorker(id: id, worker: nil)).first
        guard try await connection.affectedRows(by: DeleteWorker(id: id)) > 0 else { throw Refusal.noSuchWorker }
        try await audit("worker.remove", "worker", id.description, before: before, after: nil)
    }
}

extension AdministrationStore {
    public func modelRouting(_ model: String) async throws(AdministrationFailure) -> ModelRoutingRow {
        guard let row = try await read(FindModelRouting(model: model)).first else {
            throw .refused(.noSuchModel(model))
        }
        return row
    }

    public func changeModelRouting(
        _ model: String, _ change: ModelRoutingChange, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelRoutingRow {
        try await self.change(actor) { transaction in try await transaction.changeModelRouting(model, change) }
    }

    public func setModelVersion(
        _ model: String, _ version: ModelVersion, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelRoutingRow {
        try await change(actor) { change in try await change.setModelVersion(model, version) }
    }

    public func aliases(_ page: PageRequest<String>) async throws(AdministrationFailure) -> Page<ModelAlias> {
        try await list(ListAliases(page: page), page)
    }

    public func setAlias(_ alias: ModelAlias, by actor: AuditActor) async throws(AdministrationFailure) -> ModelAlias {
        try await change(actor) { change in try await change.setAlias(alias) }
    }

    public func deleteAlias(_ name: String, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.deleteAlias(name) }
    }

    public func workers(_ page: PageRequest<WorkerID>) async throws(AdministrationFailure) -> Page<WorkerRow> {
        try await list(ListWorkers(page: page), page)
    }

    public func registerWorker(
        _ worker: NewWorker, by actor: AuditActor
    ) async throws(AdministrationFailure) -> WorkerRow {
        try await change(actor) { change in try await change.registerWorker(worker) }
    }

    public func renewWorker(_ id: WorkerID) async throws(AdministrationFailure) -> WorkerRow {
        try await change(.system) { change in try await change.renewWorker(id) }
    }

    public func removeWorker(_ id: WorkerID, by actor: AuditActor) async throws(AdministrationFailure) {
        try await change(actor) { change in try await change.removeWorker(id) }
    }
}

extension Refusal {
    static let noSuchWorker = Refusal(
        .notFound, "There is no such worker. It has left, or another one has its place; register it anew.")

    static func noSuchModel(_ name: String) -> Refusal {
        Refusal(.notFound, "There is no model \(name). Register it first: POST /admin/v1/models.")
    }

    static func noSuchVersion(_ location: String, _ version: String, _ model: String) -> Refusal {
        .invalid(
            location, "The model \(model) has no active version \(version).",
            fix: "Register it first: PUT /admin/v1/models/\(model)/versions/\(version).")
    }
}
