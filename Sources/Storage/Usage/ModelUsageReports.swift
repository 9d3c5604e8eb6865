public import Domain
internal import PostgresDriver

extension AdministrationStore {
    public func modelUsage(
        _ model: String, from start: Timestamp, to end: Timestamp
    ) async throws(AdministrationFailure) -> [ModelUsageBucket] {
        guard try await read(DescribeModel(name: model)).first != nil else {
            throw .refused(Refusal(.notFound, "There is no model \(model)."))
        }
        return try await read(ReadModelUsage(model: model, start: start, end: end), from: reports)
    }

    public func rebuildUsage(
        from start: Timestamp, to end: Timestamp, by actor: AuditActor
    ) async throws(AdministrationFailure) -> Int64 {
        try await change(actor) { change in try await change.rebuildUsage(from: start, to: end) }
    }
}

extension AdministrationTransaction {
    func rebuildUsage(from start: Timestamp, to end: Timestamp) async throws -> Int64 {
        let buckets = try await connection.execute(RebuildUsage(start: start, end: end)).first ?? 0
        try await audit("usage.rebuild", "usage", "\(start)/\(end)", before: nil, after: nil)
        return buckets
    }
}
