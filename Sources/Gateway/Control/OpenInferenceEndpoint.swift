internal import Domain
internal import HTTPListener
internal import Hummingbird
internal import NIOCore

/// What the Open Inference Protocol v2 asks beside inference: the server, its health, its models. No worker is asked for any of it.
struct OpenInferenceEndpoint: Sendable {
    /// Of the protocol's extensions, those that are served whole.
    static let extensions = ["binary_tensor_data", "generate", "statistics"]

    let routes: RouteDirectory
    let health: any HealthSource
    let statistics: InferenceStatistics

    // MARK: server

    func server(_ request: Request, _ context: ControlContext) async throws -> Response {
        try .json(Server(version: WeirVersion.text))
    }

    func live(_ request: Request, _ context: ControlContext) async throws -> Response { try .json(["live": true]) }

    /// The protocol's text calls the field of readiness `live`, its schema `ready`: both are there.
    func ready(_ request: Request, _ context: ControlContext) async throws -> Response {
        let isReady = await health.report().isReady
        var response = try Response.json(
            ["live": true, "ready": isReady], status: isReady ? .ok : .serviceUnavailable)
        if !isReady { response.headers[.retryAfter] = "2" }
        return response
    }

    // MARK: models

    func metadata(_ request: Request, _ context: ControlContext) async throws -> Response {
        try .json(try model(context).metadata)
    }

    func modelReady(_ request: Request, _ context: ControlContext) async throws -> Response {
        let model = try model(context)
        return try .json(
            ModelReady(name: model.name, ready: model.isReady), status: model.isReady ? .ok : .serviceUnavailable)
    }

    func modelStatistics(_ request: Request, _ context: ControlContext) async throws -> Response {
        let model = try model(context)
        return try .json(ModelStatistics(stats: statistics(of: model, context.caller)))
    }

    func allStatistics(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        return try .json(ModelStatistics(stats: models(caller).flatMap { statistics(of: $0, caller) }))
    }

    /// `GET`, or `POST` as that extension has it, with an optional `{"ready": true}`.
    func index(_ request: Request, _ context: ControlContext) async throws -> Response {
        let caller = try context.caller
        let body = try await request.body.collect(upTo: 4_096)
        let onlyReady = try Self.wantsReadyAlone(body)
        let entries = models(caller).flatMap { model in
            model.versions.map { version in
                let isReady =
                    Self.model(model.name, version.isEmpty ? nil : version, routes.current.table)?.isReady ?? false
                return IndexEntry(name: model.name, version: version, state: isReady ? "READY" : "UNAVAILABLE")
            }
        }
        return try .json(entries.filter { !onlyReady || $0.state == "READY" })
    }

    private static func wantsReadyAlone(_ body: ByteBuffer) throws(Refusal) -> Bool {
        guard body.readableBytes > 0 else { return false }
        let tape: JSONTape
        do throws(JSONTape.Failure) {
            tape = try JSONTape(body)
        } catch {
            throw Refusal(error)
        }
        guard tape.kind(tape.root) == .object else {
            throw Refusal(.invalidJSON, "The body must be a JSON object, or nothing.")
        }
        var onlyReady = false
        var isKnown = true
        tape.forEachMember(of: tape.root) { key, value in
            switch tape.kind(value) {
            case .true where tape.matches(key, "ready"): onlyReady = true
            case .false where tape.matches(key, "ready"): break
            default: isKnown = false
            }
        }
        guard isKnown else {
            throw .invalid(
                "/ready", "is the only field, and is true or false", fix: "Send {\"ready\": true}, or nothing.")
        }
        return onlyReady
    }

    // MARK: one model

    /// A model under one of its names.
    private struct Named {
        let name: String
        let realName: String
        let versions: [String]
        let featureCount: Int?
        /// Whether a replica can be asked.
        let isReady: Bool

        var metadata: Metadata {
            Metadata(
                name: name, versions: versions.filter { !$0.isEmpty },
                inputs: featureCount.map { [Metadata.Tensor(name: "input0", datatype: "FP64", shape: [-1, $0])] } ?? [])
        }
    }

    private func models(_ caller: Principal) -> [Named] {
        let table = routes.current.table
        return table.names.filter { caller.mayCall($0, in: table) }.compactMap { Self.model($0, nil, table) }
    }

    /// The model and the version of the path.
    private func model(_ context: ControlContext) throws(Refusal) -> Named {
        let caller = try context.caller
        let table = routes.current.table
        guard let name = context.parameters.get("model"), caller.mayCall(name, in: table),
            let model = Self.model(name, context.parameters.get("version"), table)
        else {
            // The same words for a model that is not there and for one that is not this key's.
            throw Refusal(
                .modelNotFound,
                "There is no such model or version, or it is not yours to call. GET /v2/repository/index lists yours.")
        }
        return model
    }

    private static func model(_ name: String, _ version: String?, _ table: RouteTable) -> Named? {
        guard let realName = table.realModel(of: name), let route = table[realName],
            let resolved = table.resolve(
                model: name, version: version, stickiness: { _, _ in false }, draw: { 0 })
        else { return nil }
        return Named(
            name: name, realName: realName,
            versions: version == nil ? versions(of: name, route, table) : [resolved.version],
            featureCount: resolved.profile.featureCount,
            isReady: resolved.candidates.contains {
                ($0.runtime as? ReplicaState)?.condition.isAvailable ?? false
            })
    }

    /// Those that can be named in a request under this name; one without a name where nobody said any.
    private static func versions(of name: String, _ route: ModelRoute, _ table: RouteTable) -> [String] {
        let retired = Set(route.versions.filter { $0.state == .retired }.map(\.name))
        var names = Set(route.versions.map(\.name)).union(route.replicas.map(\.version)).subtracting(retired)
        names.remove("")
        if let fixed = table.aliasList.first(where: { $0.name == name })?.version { names = [fixed] }
        if names.isEmpty { return [route.profile.version] }
        return names.sorted { VersionRank($0) < VersionRank($1) }
    }

    private func statistics(of model: Named, _ caller: Principal) -> [VersionStatistics] {
        let tallies = statistics.tallies(of: model.realName, tenantID: caller.tenantID)
        return model.versions.map { version in
            VersionStatistics(name: model.name, version: version, tallies[version] ?? InferenceStatistics.Tally())
        }
    }
}

// MARK: - answers

private struct Server: Encodable {
    let name = "weir"
    let version: String
    let extensions = OpenInferenceEndpoint.extensions
}

private struct ModelReady: Encodable {
    let name: String
    let ready: Bool
}

private struct Metadata: Encodable {
    let name: String
    let versions: [String]
    let platform = "weir"
    let inputs: [Tensor]
    /// What workers answer is theirs to say, and they are not asked here.
    let outputs: [Tensor] = []

    struct Tensor: Encodable {
        let name: String
        let datatype: String
        let shape: [Int]
    }
}

private struct IndexEntry: Encodable {
    let name: String
    let version: String
    let state: String
    let reason = ""
}

private struct ModelStatistics: Encodable {
    let stats: [VersionStatistics]

    enum CodingKeys: String, CodingKey {
        case stats = "model_stats"
    }
}

/// As Triton's statistics extension has it. What has no meaning in a gateway, the copying of inputs and outputs, is zero.
private struct VersionStatistics: Encodable {
    let name: String
    let version: String
    let lastInference: Int64
    let inferenceCount: Int64
    let executionCount: Int64
    let inferenceStats: [String: Figure]
    let batchStats: [Figure] = []

    struct Figure: Encodable {
        let count: Int64
        let ns: Int64

        init(_ duration: InferenceStatistics.Tally.Duration) { (count, ns) = (duration.count, duration.nanoseconds) }
    }

    enum CodingKeys: String, CodingKey {
        case name, version
        case lastInference = "last_inference"
        case inferenceCount = "inference_count"
        case executionCount = "execution_count"
        case inferenceStats = "inference_stats"
        case batchStats = "batch_stats"
    }

    init(name: String, version: String, _ tally: InferenceStatistics.Tally) {
        self.name = name
        self.version = version
        lastInference = (tally.lastAt?.microsecondsSince1970 ?? 0) / 1_000
        inferenceCount = tally.inferences
        executionCount = tally.executions
        let nothing = InferenceStatistics.Tally.Duration(count: tally.compute.count)
        inferenceStats = [
            "success": Figure(tally.succeeded), "fail": Figure(tally.failed), "queue": Figure(tally.queue),
            "compute_input": Figure(nothing), "compute_infer": Figure(tally.compute),
            "compute_output": Figure(nothing), "cache_hit": Figure(tally.hits), "cache_miss": Figure(tally.misses),
        ]
    }
}
