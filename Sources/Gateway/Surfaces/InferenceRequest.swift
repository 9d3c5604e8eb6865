internal import Domain
internal import NIOCore

/// A metered request, read and checked by its surface. What the stages ask of every request stands here; what only one surface has is
/// behind its case.
enum InferenceRequest: Sendable {
    case predict(PredictRequest)
    case openAI(OpenAIRequest)

    init(_ body: ByteBuffer, for target: CallTarget) throws(Refusal) {
        switch target.surface {
        case .predict: self = .predict(try PredictRequest(body))
        case .chatCompletions, .completions, .embeddings:
            self = .openAI(try OpenAIRequest(body, for: target.surface))
        }
    }

    var surface: Surface {
        switch self {
        case .predict: .predict
        case .openAI(let request): request.surface
        }
    }

    /// As the caller names it.
    var model: String {
        switch self {
        case .predict(let request): request.model
        case .openAI(let request): request.model
        }
    }

    var version: String? {
        switch self {
        case .predict(let request): request.version
        case .openAI: nil
        }
    }

    var tape: JSONTape {
        switch self {
        case .predict(let request): request.tape
        case .openAI(let request): request.tape
        }
    }

    /// Bytes of the body: no tokenizer makes more tokens than bytes, so this bounds the input tokens.
    var byteCount: Int64 { Int64(tape.bytes.readableBytes) }

    /// Bytes of the texts in it: what there is to go by where a worker does not say what its input counted as.
    var textByteCount: Int64 {
        switch self {
        case .predict: byteCount
        case .openAI(let request): request.textByteCount
        }
    }

    /// Inputs that are answered each on its own.
    var rowCount: Int64 {
        switch self {
        case .predict(let request): Int64(request.rows.count)
        case .openAI(let request): request.inputCount
        }
    }

    var numberCount: Int64 {
        switch self {
        case .predict(let request): request.numberCount
        case .openAI: 0
        }
    }

    /// Whether the answer is to be sent piece by piece, as it comes into being.
    var isStreaming: Bool {
        switch self {
        case .predict: false
        case .openAI(let request): request.isStreaming
        }
    }

    /// The most tokens that the answer can have, for a model that makes at most so many for each input.
    func outputBound(_ profile: ModelProfile) -> Int64 {
        switch self {
        case .predict(let request):
            let bound = profile.maximumOutputTokens.multipliedReportingOverflow(by: Int64(request.rows.count))
            return bound.overflow ? .max : bound.partialValue
        case .openAI(let request): return request.outputBound(profile)
        }
    }

    /// Checks what only the model can say about the request.
    /// - Parameter stickyField: by which the model divides its requests.
    func check(against profile: ModelProfile, stickyField: String?) throws(Refusal) {
        switch self {
        case .predict(let request):
            try request.check(extra: stickyField)
            try request.check(against: profile)
        case .openAI(let request): try request.check(against: profile)
        }
    }

    /// Whether a worker of this protocol can be asked.
    func isSpoken(by workerProtocol: WorkerProtocol) -> Bool {
        switch self {
        case .predict: workerProtocol != .openai
        case .openAI: workerProtocol == .openai
        }
    }

    /// Whether the answer may come from the cache and go there.
    /// - Parameter isAskedFor: the request itself says so.
    func isCacheable(_ policy: CachePolicy, isAskedFor: Bool) -> Bool {
        switch self {
        case .predict: true
        case .openAI(let request): request.isCacheable(policy, isAskedFor: isAskedFor)
        }
    }

    /// Adds to the hash what a model's requests are told apart by.
    /// - Returns: false where the request has nothing of the kind; it is drawn by chance then.
    func tell(_ rule: Stickiness, of principal: Principal, to hash: inout StableHash) -> Bool {
        switch rule {
        case .none: return false
        case .tenant: hash.combine(principal.tenantID)
        case .key: hash.combine(principal.keyID)
        case .user:
            if let user = principal.userID { hash.combine(user) } else { hash.combine(principal.keyID) }
        case .field(let name):
            guard let value = value(ofField: name) else { return false }
            // However it is written, a text is the same caller.
            if tape.hasEscape(value), let text = tape.string(value) {
                hash.combine(text.utf8)
            } else {
                tape.withBytes(of: value) { hash.combine($0) }
            }
        }
        return true
    }

    private func value(ofField name: String) -> JSONTape.Value? {
        switch self {
        case .predict(let request):
            guard let extra = request.extra, tape.matches(extra.key, text: name) else { return nil }
            return extra.value
        case .openAI:
            var found: JSONTape.Value?
            tape.forEachMember(of: tape.root) { key, value in
                guard tape.matches(key, text: name) else { return }
                if tape.kind(value) == .string || tape.int64(value) != nil { found = value }
            }
            return found
        }
    }
}
