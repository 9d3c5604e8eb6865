internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `/admin/v1/cache` and `/admin/v1/models/{model}/cache`: what is cached, what was counted, and forgetting.
struct CacheEndpoint: Sendable {
    let administration: any Administration

    private static let reportLimit = 1_000

    func setPolicy(_ call: AdminCall) async throws -> Response {
        guard let name = call.context.parameters.get("model"), ModelName.isValid(name.utf8) else {
            throw Refusal(.notFound, "There is no such model.")
        }
        let input = try await RequestBodyReader.object(call, fields: CachePolicyInput.fields)
        let policy = CachePolicyInput.read(input)
        try input.problems.check()
        guard let policy else { throw input.problems.refusal }
        return try .json(ModelAnswer(try await administration.setCachePolicy(name, policy, by: call.actor)))
    }

    func clear(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["tenant_id", "model", "key", "pattern"])
        let tenantID = input.optional("tenant_id", .tenantID)
        let model = input.optional("model", .modelName)
        let key = input.optional("key", .cacheLabel)
        let pattern = input.optional("pattern", .cachePattern)
        if key != nil, pattern != nil {
            input.note("pattern", "cannot be sent together with key", fix: "Send one of them.")
        }
        if key != nil || pattern != nil, tenantID == nil {
            input.note("tenant_id", "is needed with a key or a pattern", fix: "Say whose entries are meant.")
        }
        if tenantID == nil, model == nil {
            input.note("tenant_id", "or a model is needed", fix: "Say whose entries, or which model's, are meant.")
        }
        try input.problems.check()
        let number = try await administration.clearCache(
            NewCacheClearing(tenantID: tenantID, model: model, pattern: key ?? pattern), by: call.actor)
        return try .json(ClearingAnswer(clearing: number))
    }

    func statistics(_ call: AdminCall) async throws -> Response {
        let tenantID = try call.query.value("tenant_id", "a tenant's id", fix: "Take it from GET /admin/v1/tenants.") {
            TenantID($0)
        }
        let model = try call.query.value("model", "a model's name", fix: "Take it from GET /admin/v1/models.") {
            ModelName.isValid($0.utf8) ? $0 : nil
        }
        let rows = try await administration.cacheStatistics(
            CacheStatisticsQuery(tenantID: tenantID, model: model, limit: Self.reportLimit))
        return try .json(StatisticsAnswer(data: rows.map(StatisticsAnswer.Item.init)))
    }
}

/// A model's policy as it is sent, in an object of its own or with a new model.
enum CachePolicyInput {
    static let fields: Set<String> = [
        "enabled", "ttl_seconds", "maximum_ttl_seconds", "sameness", "levels", "generations",
    ]

    /// - Returns: `nil` where something is wrong, which is noted.
    static func read(_ input: InputObject) -> CachePolicy? {
        let isOn = input.required("enabled", .boolean)
        let ttl = input.nullable("ttl_seconds", .integer(0...31_536_000))
        let maximum = input.nullable("maximum_ttl_seconds", .integer(1...31_536_000))
        let sameness = input.optional("sameness", .oneOf(CachePolicy.Sameness.allCases)) ?? .tensors
        let levels = input.optional("levels", .cacheLevels) ?? CachePolicy.Levels()
        let generations = input.optional("generations", .oneOf(CachePolicy.Generations.allCases)) ?? .deterministic
        if let ttl, let maximum, ttl > maximum {
            input.note("ttl_seconds", "is more than maximum_ttl_seconds", fix: "Send a smaller one.")
        }
        return isOn.map {
            CachePolicy(
                isOn: $0, ttlSeconds: ttl, maximumTTLSeconds: maximum, sameness: sameness, levels: levels,
                generations: generations)
        }
    }
}

/// A model's policy as it is answered.
struct CachePolicyAnswer: Encodable {
    let enabled: Bool
    @Present var ttlSeconds: Int64?
    @Present var maximumTTLSeconds: Int64?
    let sameness: String
    let levels: [String]
    let generations: String

    enum CodingKeys: String, CodingKey {
        case enabled, sameness, levels, generations
        case ttlSeconds = "ttl_seconds"
        case maximumTTLSeconds = "maximum_ttl_seconds"
    }

    init(_ policy: CachePolicy) {
        enabled = policy.isOn
        ttlSeconds = policy.ttlSeconds
        maximumTTLSeconds = policy.maximumTTLSeconds
        sameness = policy.sameness.rawValue
        levels = policy.levels.names
        generations = policy.generations.rawValue
    }
}

private struct ClearingAnswer: Encodable {
    let object = "cache_clearing"
    let clearing: Int64
}

private struct StatisticsAnswer: Encodable {
    struct Item: Encodable {
        let tenantID: String
        let model: String
        let hits: Int64
        let memoryHits: Int64
        let redisHits: Int64
        let tableHits: Int64
        let collapsed: Int64
        let misses: Int64
        let stores: Int64
        let storedBytes: Int64
        let evictions: Int64
        let tableEntries: Int64
        let tableAccesses: Int64

        enum CodingKeys: String, CodingKey {
            case model, hits, collapsed, misses, stores, evictions
            case tenantID = "tenant_id"
            case memoryHits = "memory_hits"
            case redisHits = "redis_hits"
            case tableHits = "table_hits"
            case storedBytes = "stored_bytes"
            case tableEntries = "table_entries"
            case tableAccesses = "table_accesses"
        }

        init(_ report: CacheStatisticsReport) {
            let tally = report.row.tally
            tenantID = report.row.tenantID.description
            model = report.row.model
            hits = tally.memoryHits + tally.redisHits + tally.tableHits
            memoryHits = tally.memoryHits
            redisHits = tally.redisHits
            tableHits = tally.tableHits
            collapsed = tally.collapsed
            misses = tally.misses
            stores = tally.stores
            storedBytes = tally.storedBytes
            evictions = tally.evictions
            tableEntries = report.tableEntries
            tableAccesses = report.tableAccesses
        }
    }

    let object = "list"
    let data: [Item]
}

extension InputRule where Value == String {
    fileprivate static var cacheLabel: InputRule {
        InputRule(
            expectation: "a name as in x-weir-cache-key",
            fix: "Send letters, digits, dots, underscores, colons and hyphens, at most 128 of them."
        ) { value in
            guard case .string(let text) = value, CachePattern.isLabel(text) else { return nil }
            return text
        }
    }

    fileprivate static var cachePattern: InputRule {
        InputRule(
            expectation: "a name as in x-weir-cache-key, with * for any characters and ? for one",
            fix: "Send a pattern such as user123_*."
        ) { value in
            guard case .string(let text) = value, CachePattern.isPattern(text) else { return nil }
            return text
        }
    }
}

extension InputRule where Value == CachePolicy.Levels {
    fileprivate static var cacheLevels: InputRule {
        InputRule(
            expectation: "a list of memory, redis and table, memory among them", fix: #"Send ["memory", "redis"]."#
        ) { value in
            guard case .array(let items) = value else { return nil }
            var names: [String] = []
            for item in items {
                guard case .string(let name) = item else { return nil }
                names.append(name)
            }
            return CachePolicy.Levels(names: names)
        }
    }
}
