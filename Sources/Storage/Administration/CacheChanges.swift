public import Domain
internal import PostgresDriver

extension AdministrationTransaction {
    func setCachePolicy(_ model: String, _ policy: CachePolicy) async throws -> ModelProfile {
        guard try await !connection.execute(LockModel(name: model)).isEmpty else {
            throw Refusal(.notFound, "There is no model \(model). Register it first: POST /admin/v1/models.")
        }
        let before = try await connection.execute(DescribeModel(name: model)).first
        _ = try await connection.execute(SetCachePolicy(model: model, policy: policy))
        let after = try await connection.execute(DescribeModel(name: model)).first
        if before != after { try await audit("model.cache", "model", model, before: before, after: after) }
        guard let row = try await connection.execute(FindModel(name: model)).first else {
            throw Refusal(.notFound, "There is no model \(model).")
        }
        return row
    }

    func clearCache(_ clearing: NewCacheClearing) async throws -> Int64 {
        if let tenantID = clearing.tenantID { _ = try await tenant(tenantID) }
        guard let number = try await connection.execute(ClearPredictionCache(clearing: clearing)).first else {
            throw Refusal(.internalError, "The cache could not be cleared.", cause: "no number for a clearing")
        }
        let after = try await connection.execute(DescribeClearing(clearing: clearing)).first
        try await audit(
            "cache.clear", "cache", clearing.model ?? clearing.tenantID?.description ?? "", tenantID: clearing.tenantID,
            before: nil, after: after)
        return number
    }
}

extension AdministrationStore {
    public func setCachePolicy(
        _ model: String, _ policy: CachePolicy, by actor: AuditActor
    ) async throws(AdministrationFailure) -> ModelProfile {
        try await change(actor) { change in try await change.setCachePolicy(model, policy) }
    }

    public func clearCache(_ clearing: NewCacheClearing, by actor: AuditActor) async throws(AdministrationFailure)
        -> Int64
    {
        try await change(actor) { change in try await change.clearCache(clearing) }
    }

    public func cacheStatistics(_ query: CacheStatisticsQuery) async throws(AdministrationFailure)
        -> [CacheStatisticsReport]
    {
        try await read(ReadCacheStatistics(query: query))
    }
}
