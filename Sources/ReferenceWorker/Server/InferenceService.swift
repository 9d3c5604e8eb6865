import NIOCore
import NIOHTTP1

/// A request as far as answering it goes.
struct WorkerRequest {
    var method: HTTPMethod
    var uri: String
    /// The caller's `x-request-id`, for the journal.
    var requestID: String?
    /// `Inference-Header-Content-Length` was given: tensors follow the JSON in binary, an extension that this worker
    /// does not have.
    var hasBinaryTensors = false
    var body = ByteBuffer()
}

/// Turns requests into replies. Holds no connection and never waits; one value serves all event loops.
struct InferenceService: Sendable {
    let models: LoadedModels
    let allowsFaults: Bool
    let delayMilliseconds: Int64
    let slowFaultMilliseconds: Int64
    let journal: InferenceJournal?
    let counters: WorkerCounters

    func reply(to request: WorkerRequest) -> Reply {
        do throws(Refusal) {
            return try route(request)
        } catch {
            counters.countRefusal()
            return .error(error.status, error.message)
        }
    }

    private func route(_ request: WorkerRequest) throws(Refusal) -> Reply {
        guard let route = WorkerRoute(uri: request.uri) else { throw .notFound("there is nothing at this path") }
        guard route.allowedMethods.contains(request.method) else {
            counters.countRefusal()
            let allowed = route.allowedMethods.map(\.rawValue).joined(separator: ", ")
            var reply = Reply.error(.methodNotAllowed, "this path takes \(allowed)")
            reply.headers.append(("allow", allowed))
            return reply
        }
        switch route {
        case .predict: return try predict(request)
        case .infer(let name, let version): return try infer(request, name: name, version: version)
        case .model(let name, let version): return .ok(try metadata(name: name, version: version))
        case .modelReady(let name, let version):
            _ = try served(name: name, version: version)
            return .ok(Metadata.ready(name: name))
        case .server: return .ok(Metadata.server())
        case .live: return .ok(ByteBuffer(string: #"{"live":true}"#))
        case .ready: return .ok(ByteBuffer(string: #"{"live":true,"ready":true}"#))
        case .health: return .ok(Metadata.health(models))
        case .metrics:
            var reply = Reply.ok(counters.exposition())
            reply.contentType = "text/plain; version=0.0.4; charset=utf-8"
            return reply
        }
    }

    // MARK: Models

    enum Served {
        case tabular(TabularModel)
        case fault(FaultModel)
    }

    func served(name: String, version: String?) throws(Refusal) -> Served {
        if let model = models.model(named: name, version: version) { return .tabular(model) }
        if allowsFaults, let fault = FaultModel(rawValue: name), version == nil || version == FaultModel.version {
            return .fault(fault)
        }
        let versions = models.versions(of: name).map(\.version)
        throw versions.isEmpty
            ? .notFound("there is no such model")
            : .notFound("model \(name) has no such version; it has \(versions.joined(separator: ", "))")
    }

    private func metadata(name: String, version: String?) throws(Refusal) -> ByteBuffer {
        switch try served(name: name, version: version) {
        case .tabular(let model): Metadata.model(model, versions: models.versions(of: name).map(\.version))
        case .fault(let fault): Metadata.fault(fault)
        }
    }
}
