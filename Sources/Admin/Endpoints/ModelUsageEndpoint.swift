internal import Domain
internal import HTTPListener
internal import Hummingbird

/// `GET /admin/v1/models/{model}/usage` and `POST /admin/v1/usage/rebuild`: what those who scale workers have to know, and how it is
/// computed anew.
struct ModelUsageEndpoint: Sendable {
    let administration: any Administration
    let demand: ReplicaDemand
    let time: any TimeSource

    private static let bucketMilliseconds: Int64 = 900_000
    private static let dayMilliseconds: Int64 = 86_400_000
    /// Days that one answer may cover.
    private static let dayLimit: Int64 = 31
    /// Days that one rebuild may cover.
    private static let rebuildDayLimit: Int64 = 366

    func get(_ call: AdminCall) async throws -> Response {
        let model = try call.modelName()
        let now = time.now
        let next = now.usageBucketStart.advanced(byMilliseconds: Self.bucketMilliseconds)
        let end = try call.query.usageEdge("to") ?? next
        let start = try call.query.usageEdge("from") ?? end.advanced(byMilliseconds: -Self.dayMilliseconds)
        guard start < end else {
            throw Refusal.invalid("to", "must be later than from", fix: "The range is half-open: from <= t < to.")
        }
        guard end.milliseconds(since: start) <= Self.dayLimit * Self.dayMilliseconds else {
            throw Refusal.invalid("from", "spans more than \(Self.dayLimit) days", fix: "Ask for a shorter range.")
        }
        let buckets = try await administration.modelUsage(model, from: start, to: end)
        let windowStart = ReplicaDemand.windowStart(at: now)
        let recent = try await administration.modelUsage(model, from: windowStart, to: next)
        let desired = demand.desired(
            busyMicroseconds: recent.reduce(0) { $0 + $1.busyMicroseconds },
            inMicroseconds: now.microsecondsSince1970 - windowStart.microsecondsSince1970)
        return try .json(
            ModelUsageAnswer(
                model: model, from: start.description, to: end.description, desiredReplicas: desired,
                data: buckets.map { ModelUsageAnswer.Bucket($0) }))
    }

    func rebuild(_ call: AdminCall) async throws -> Response {
        let input = try await RequestBodyReader.object(call, fields: ["from", "to"])
        let start = input.required("from", .instant)
        let end = input.required("to", .instant)
        for (name, edge) in [("from", start), ("to", end)] where edge?.isUsageEdge == false {
            input.note(
                name, "must be on a quarter of an hour, by which usage is summed",
                fix: "Send minutes of 00, 15, 30 or 45 and no seconds.")
        }
        if let start, let end {
            if start >= end { input.note("to", "must be later than from", fix: "The range is half-open.") }
            if end.milliseconds(since: start) > Self.rebuildDayLimit * Self.dayMilliseconds {
                input.note("from", "spans more than \(Self.rebuildDayLimit) days", fix: "Rebuild a shorter range.")
            }
        }
        try input.problems.check()
        guard let start, let end else { throw input.problems.refusal }
        let count = try await administration.rebuildUsage(from: start, to: end, by: call.actor)
        return try .json(RebuildAnswer(from: start.description, to: end.description, buckets: count))
    }
}

extension AdminCall {
    /// The model in the path; a malformed name is unknown.
    func modelName() throws(Refusal) -> String {
        guard let name = context.parameters.get("model"), ModelName.isValid(name.utf8) else {
            throw Refusal(.notFound, "There is no such model.")
        }
        return name
    }
}

private struct ModelUsageAnswer: Encodable {
    struct Bucket: Encodable {
        let start: String
        let requests: Int64
        let tokens: Int64
        let errors: Int64
        let cacheHits: Int64
        let busyMilliseconds: Int64
        let queueDepth: Int64

        enum CodingKeys: String, CodingKey {
            case start, requests, tokens, errors
            case cacheHits = "cache_hits"
            case busyMilliseconds = "busy_ms"
            case queueDepth = "queue_depth"
        }

        init(_ bucket: ModelUsageBucket) {
            start = bucket.start.description
            requests = bucket.requests
            tokens = bucket.tokens
            errors = bucket.errors
            cacheHits = bucket.cacheHits
            busyMilliseconds = bucket.busyMicroseconds / 1_000
            queueDepth = bucket.queueDepth
        }
    }

    let object = "list"
    let model: String
    let from: String
    let to: String
    let desiredReplicas: Int64
    let data: [Bucket]

    enum CodingKeys: String, CodingKey {
        case object, model, from, to, data
        case desiredReplicas = "desired_replicas"
    }
}

private struct RebuildAnswer: Encodable {
    let from: String
    let to: String
    let buckets: Int64
}
