internal import Domain
internal import NIOCore

/// The API by which a metered request came in: how its body is read, how its answer is written, how its errors look. What happens between
/// is the same for all of them.
enum Surface: UInt8, Sendable, CaseIterable {
    /// The native API.
    case predict
    /// The OpenAI API.
    case chatCompletions, completions, embeddings
    /// The Open Inference Protocol.
    case infer, generate, generateStream

    /// The surface whose request a body is, for a quote: told by the one field that each of them has alone. What is none of them is read as
    /// the native one, which then says what is wrong with it.
    init(quoted body: ByteBuffer) {
        self = .predict
        guard let tape = try? JSONTape(body), tape.kind(tape.root) == .object else { return }
        for (name, surface) in Self.ownFields where tape.member(name, of: tape.root) != nil { self = surface }
    }

    /// The fields that say of a body whose request it is. Each may be an unknown field of another surface, so two of them say nothing.
    private static let ownFields: [(StaticString, Surface)] = [
        ("messages", .chatCompletions), ("prompt", .completions), ("input", .embeddings),
    ]

    /// The surface whose request a body is, where the route takes several and the answer is fetched later.
    /// - Throws: `validation_failed` where it could be the request of two: one of them would be a guess that is charged.
    init(told body: ByteBuffer) throws(Refusal) {
        self.init(quoted: body)
        guard let tape = try? JSONTape(body), tape.kind(tape.root) == .object else { return }
        let found = Self.ownFields.filter { tape.member($0.0, of: tape.root) != nil }
        guard found.count > 1 else { return }
        throw .invalid(
            "/\(found[1].0)", "cannot stand beside \(found[0].0): the body would be the request of two APIs",
            fix: "Send messages, prompt or input, and only one of them.")
    }

    /// What is kept about a request as the kind of work that it was.
    var operation: String {
        switch self {
        case .predict: "predict"
        case .chatCompletions: "chat.completions"
        case .completions: "completions"
        case .embeddings: "embeddings"
        case .infer: "infer"
        case .generate: "generate"
        case .generateStream: "generate_stream"
        }
    }

    /// What an idempotency key stands for on this surface, however the path is spelled.
    var idempotencyOperation: String {
        switch self {
        case .predict: "POST /predict/"
        case .chatCompletions: "POST /v1/chat/completions"
        case .completions: "POST /v1/completions"
        case .embeddings: "POST /v1/embeddings"
        case .infer: "POST /v2/models/{model}/infer"
        case .generate: "POST /v2/models/{model}/generate"
        case .generateStream: "POST /v2/models/{model}/generate_stream"
        }
    }

    var dialect: ErrorDialect {
        switch self {
        case .predict: .problem
        case .chatCompletions, .completions, .embeddings: .openAI
        case .infer, .generate, .generateStream: .openInference
        }
    }
}

/// What the request line says about a metered request.
struct CallTarget: Sendable, Equatable {
    var surface: Surface
    /// Where the path names them.
    var model: String?
    var version: String?
    /// The caller wants to be told later: by the path or by `Prefer: respond-async` (RFC 7240).
    var isAsync = false
    /// Where the JSON of the body ends and binary data begin: the header `Inference-Header-Content-Length`, less than zero for one that is no
    /// number. `nil` where the whole body is JSON.
    var jsonByteCount: Int?
    /// It was `Prefer` that said so, and the answer says that it was heeded.
    var isAsyncPreferred = false
    /// The route takes the bodies of several surfaces; which one it is shows in the body.
    var isSurfaceInBody = false

    static let predict = CallTarget(surface: .predict)

    /// What an idempotency key stands for: the operation, and the model where the path names it.
    var idempotencyOperation: String {
        guard let model else { return surface.idempotencyOperation }
        return "\(surface.idempotencyOperation) \(model) \(version ?? "")"
    }
}

/// The metered routes: the only ones that may reach a worker. No other part of the server reads their requests.
enum MeteredRoutes {
    /// - Parameter target: of the request line, with its query.
    /// - Returns: `nil` for what is not metered.
    static func match(_ target: String) -> CallTarget? {
        let path = target.utf8.prefix { $0 != UInt8(ascii: "?") }
        if path.elementsEqual("/predict".utf8) || path.elementsEqual("/predict/".utf8) { return .predict }
        if path.elementsEqual("/predict/async".utf8) || path.elementsEqual("/predict/async/".utf8) {
            return CallTarget(surface: .predict, isAsync: true)
        }
        if path.elementsEqual("/generate".utf8) {
            return CallTarget(surface: .predict, isAsync: true, isSurfaceInBody: true)
        }
        for (route, surface) in fixed where path.elementsEqual(route.utf8) { return CallTarget(surface: surface) }
        return path.starts(with: "/v2/models/".utf8) ? model(path) : nil
    }

    /// `/v2/models/{model}[/versions/{version}]/{verb}`. Names need no percent-encoding, so none is decoded.
    private static func model(_ path: Substring.UTF8View) -> CallTarget? {
        let parts = Substring(path).split(separator: "/", omittingEmptySubsequences: false).dropFirst(3)
        let verb: Substring
        var target = CallTarget(surface: .infer)
        switch Array(parts) {
        case let parts where parts.count == 2: (target.model, verb) = (String(parts[0]), parts[1])
        case let parts where parts.count == 4 && parts[1] == "versions":
            (target.model, target.version, verb) = (String(parts[0]), String(parts[2]), parts[3])
        default: return nil
        }
        switch verb {
        case "infer": target.surface = .infer
        case "generate": target.surface = .generate
        case "generate_stream": target.surface = .generateStream
        default: return nil
        }
        return target
    }

    private static let fixed: [(String, Surface)] = [
        ("/v1/chat/completions", .chatCompletions), ("/v1/completions", .completions),
        ("/v1/embeddings", .embeddings),
    ]
}
