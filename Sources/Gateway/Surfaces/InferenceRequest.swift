internal import Domain
internal import NIOCore

/// A metered request, read and checked by its surface. What the stages ask of every request stands here; what only one surface has is
/// behind its case.
enum InferenceRequest: Sendable {
    case predict(PredictRequest)
    case openAI(OpenAIRequest)
    case infer(InferRequest)
    case generate(GenerateRequest)

    init(_ body: ByteBuffer, for target: CallTarget) throws(Refusal) {
        switch target.surface {
        case .predict: self = .predict(try PredictRequest(body))
        case .chatCompletions, .completions, .embeddings:
            self = .openAI(try OpenAIRequest(body, for: target.surface))
        case .infer:
            let (model, version) = try Self.names(target)
            self = .infer(try InferRequest(body, model: model, version: version, jsonByteCount: target.jsonByteCount))
        case .generate, .generateStream:
            let (model, version) = try Self.names(target)
            self = .generate(
                try GenerateRequest(
                    body, model: model, version: version, isStreaming: target.surface == .generateStream))
        }
    }

    /// The model and the version of a path.
    private static func names(_ target: CallTarget) throws(Refusal) -> (model: String, version: String?) {
        guard let model = target.model, ModelName.isValid(model.utf8),
            target.version.map({ ModelVersionName.isValid($0.utf8) }) ?? true
        else {
            throw Refusal(
                .modelNotFound, "There is no model or version of that name. GET /v2/repository/index lists yours.")
        }
        return (model, target.version)
    }

    var surface: Surface {
        switch self {
        case .predict: .predict
        case .openAI(let request): request.surface
        case .infer: .infer
        case .generate(let request): request.isStreaming ? .generateStream : .generate
        }
    }

    /// As the caller names it.
    var model: String {
        switch self {
        case .predict(let request): request.model
        case .openAI(let request): request.model
        case .infer(let request): request.model
        case .generate(let request): request.model
        }
    }

    var version: String? {
        switch self {
        case .predict(let request): request.version
        case .openAI: nil
        case .infer(let request): request.version
        case .generate(let request): request.version
        }
    }

    var tape: JSONTape {
        switch self {
        case .predict(let request): request.tape
        case .openAI(let request): request.tape
        case .infer(let request): request.tape
        case .generate(let request): request.tape
        }
    }

    /// Whether the caller sends or asks for anything in binary form.
    var isInBinaryForm: Bool {
        guard case .infer(let request) = self else { return false }
        return request.mayWantBinary || binary?.readableBytes ?? 0 > 0
    }

    /// What the body has behind its JSON.
    var binary: ByteBuffer? {
        guard case .infer(let request) = self else { return nil }
        return request.body.getSlice(
            at: request.body.readerIndex + tape.bytes.readableBytes,
            length: request.body.readableBytes - tape.bytes.readableBytes)
    }

    /// Bytes of the body: no tokenizer makes more tokens than bytes, so this bounds the input tokens.
    var byteCount: Int64 {
        if case .infer(let request) = self { return request.byteCount }
        return Int64(tape.bytes.readableBytes)
    }

    /// The most tokens that the input can be.
    var inputBound: Int64 {
        guard case .openAI(let request) = self else { return byteCount }
        let others = request.otherPartCount.multipliedReportingOverflow(by: OpenAIRequest.otherPartTokens)
        return others.overflow ? .max : byteCount.addingReportingOverflow(others.partialValue).partialValue
    }

    /// Bytes of the texts of a request whose answer is generated; `nil` for a prediction.
    var generatedFromTextBytes: Int64? {
        switch self {
        case .openAI, .generate: textByteCount
        case .predict, .infer: nil
        }
    }

    /// Bytes of the texts in it: what there is to go by where a worker does not say what its input counted as.
    var textByteCount: Int64 {
        switch self {
        case .predict, .infer: byteCount
        case .openAI(let request): request.textByteCount
        case .generate(let request): Int64(request.tape.withBytes(of: request.text, { $0.count }))
        }
    }

    /// Inputs that are answered each on its own.
    var rowCount: Int64 {
        switch self {
        case .predict(let request): Int64(request.rows.count)
        case .openAI(let request): request.inputCount
        case .infer(let request): Int64(request.rowCount)
        case .generate: 1
        }
    }

    var numberCount: Int64 {
        switch self {
        case .predict(let request): request.numberCount
        case .openAI, .generate: 0
        case .infer(let request): request.elementCount
        }
    }

    /// Whether the answer is to be sent piece by piece, as it comes into being.
    var isStreaming: Bool {
        switch self {
        case .predict, .infer: false
        case .openAI(let request): request.isStreaming
        case .generate(let request): request.isStreaming
        }
    }

    /// The most tokens that the answer can have, for a model that makes at most so many for each input.
    func outputBound(_ profile: ModelProfile) -> Int64 {
        switch self {
        case .predict(let request):
            let bound = profile.maximumOutputTokens.multipliedReportingOverflow(by: Int64(request.rows.count))
            return bound.overflow ? .max : bound.partialValue
        case .openAI(let request): return request.outputBound(profile)
        case .infer(let request):
            let bound = profile.maximumOutputTokens.multipliedReportingOverflow(by: Int64(request.rowCount))
            return bound.overflow ? .max : bound.partialValue
        case .generate(let request): return request.outputBound(profile)
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
        case .infer(let request): try request.check(against: profile)
        case .generate(let request): try request.check(against: profile)
        }
    }

    /// Whether a worker of this protocol can be asked.
    func isSpoken(by workerProtocol: WorkerProtocol) -> Bool {
        switch self {
        case .predict: workerProtocol != .openai
        case .openAI: workerProtocol == .openai
        case .infer(let request): workerProtocol == .oip || workerProtocol == .predict && request.isPlain
        case .generate: workerProtocol != .predict
        }
    }

    /// Whether the answer may come from the cache and go there.
    /// - Parameter isAskedFor: the request itself says so.
    func isCacheable(_ policy: CachePolicy, isAskedFor: Bool) -> Bool {
        switch self {
        case .predict, .infer: true
        case .openAI(let request): request.isCacheable(policy, isAskedFor: isAskedFor)
        case .generate(let request): request.isCacheable(policy, isAskedFor: isAskedFor)
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
        case .infer(let request): return request.parameters.members.first { tape.matches($0.name, text: name) }?.value
        case .generate(let request): return request.parameters.first { tape.matches($0.name, text: name) }?.value
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

extension InferenceRequest {
    /// What is kept of a body as the prompt: a text, also where the body is none.
    func retained(_ body: ByteBuffer) -> [UInt8] {
        guard case .infer(let request) = self, binary.map({ $0.readableBytes > 0 }) ?? false else {
            return Array(body.readableBytesView)
        }
        var text = ByteBuffer()
        request.writeQuestion(to: &text)
        // Begins with a comma, in front of which others stand elsewhere.
        return Array("{".utf8) + text.readableBytesView.dropFirst() + Array("}".utf8)
    }

    /// A worker's answer as the caller is sent it.
    /// - Parameters:
    ///   - kept: what the worker answered, as it is kept.
    ///   - version: the one that answered.
    func write(_ kept: ByteBuffer, version: String) -> InferAnswer.Written {
        switch self {
        case .predict, .openAI: InferAnswer.Written(body: kept, jsonByteCount: nil)
        case .infer(let request): InferAnswer.write(kept, to: request, version: version)
        case .generate(let request):
            InferAnswer.Written(
                body: InferAnswer.write(kept, to: request, version: version), jsonByteCount: nil)
        }
    }
}
