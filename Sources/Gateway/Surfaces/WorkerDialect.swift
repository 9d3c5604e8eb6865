internal import Domain
internal import NIOCore

/// What a worker answered, read as far as the gateway needs it.
struct WorkerReading: Sendable {
    /// JSON as the worker wrote it.
    let prediction: ByteBuffer
    let probabilities: ByteBuffer?
    let version: String?
    /// `nil` where the worker reported none: zero and unknown are different.
    let inputTokens: Int64?
    let cachedInputTokens: Int64?
    let outputTokens: Int64?
    /// Of an answer that is no JSON: what it is, as `image/png`. `prediction` is then all of it.
    var mediaType: String?
}

/// How a request is written for, and its answer read from, each worker protocol.
enum WorkerDialect {
    static func path(
        _ workerProtocol: WorkerProtocol, of surface: Surface, model: String, version: String
    ) -> String {
        switch workerProtocol {
        case .predict: "/predict"
        case .openai: OpenAIDialect.path(surface)
        case .oip:
            "/v2/models/\(model)" + (version.isEmpty ? "" : "/versions/\(version)")
                + (surface == .generate ? "/generate" : surface == .generateStream ? "/generate_stream" : "/infer")
        }
    }

    /// - Parameters:
    ///   - model: what the worker calls the model; the request may name it otherwise.
    ///   - version: what the worker is told; `nil` leaves it to the worker.
    static func body(
        _ request: InferenceRequest, requestID: RequestID, for workerProtocol: WorkerProtocol, model: String,
        version: String?, profile: ModelProfile
    ) -> ByteBuffer {
        switch request {
        case .predict(let request):
            body(request, requestID: requestID, for: workerProtocol, model: model, version: version)
        case .openAI(let request): OpenAIDialect.body(request, model: model, profile: profile)
        case .infer(let request):
            body(request, requestID: requestID, for: workerProtocol, model: model, version: version)
        case .generate(let request):
            body(request, requestID: requestID, for: workerProtocol, model: model, profile: profile)
        }
    }

    private static func body(
        _ request: InferRequest, requestID: RequestID, for workerProtocol: WorkerProtocol, model: String,
        version: String?
    ) -> ByteBuffer {
        var body = ByteBuffer()
        if workerProtocol == .predict, let rows = request.rows {
            request.writePredict(rows, model: model, version: version, to: &body)
        } else {
            request.writeInfer(requestID: requestID, to: &body)
        }
        return body
    }

    private static func body(
        _ request: GenerateRequest, requestID: RequestID, for workerProtocol: WorkerProtocol, model: String,
        profile: ModelProfile
    ) -> ByteBuffer {
        var body = ByteBuffer()
        if workerProtocol == .openai {
            request.writeCompletion(model: model, profile: profile, to: &body)
        } else {
            request.writeGenerate(requestID: requestID, profile: profile, to: &body)
        }
        return body
    }

    private static func body(
        _ request: PredictRequest, requestID: RequestID, for workerProtocol: WorkerProtocol, model: String,
        version: String?
    ) -> ByteBuffer {
        switch workerProtocol {
        case .predict, .openai:
            // Checked field by field, so the caller's own bytes can go on as they are where they say the same.
            request.extra == nil && request.version == version && request.model == model
                ? request.tape.bytes : predictBody(request, model: model, version: version)
        case .oip: inferBody(request, requestID: requestID)
        }
    }

    /// `{"model","version"?,"features"|"inputs"}`. The names need no escapes: their form is checked wherever they come from.
    private static func predictBody(_ request: PredictRequest, model: String, version: String?) -> ByteBuffer {
        var body = ByteBuffer()
        body.reserveCapacity(request.tape.bytes.readableBytes + model.utf8.count + 64)
        body.writeStaticString("{\"model\":\"")
        body.writeString(model)
        if let version {
            body.writeStaticString("\",\"version\":\"")
            body.writeString(version)
        }
        body.writeStaticString(request.isBatch ? "\",\"inputs\":[" : "\",\"features\":")
        for (index, row) in request.rows.enumerated() {
            if index > 0 { body.writeStaticString(",") }
            body.writeImmutableBuffer(request.tape.slice(row))
        }
        body.writeStaticString(request.isBatch ? "]}" : "}")
        return body
    }

    /// `{"id","inputs":[{"name":"input0","shape":[rows,columns],"datatype":"FP64","data":[…]}]}`, numbers as the caller wrote them.
    private static func inferBody(_ request: PredictRequest, requestID: RequestID) -> ByteBuffer {
        let columns = request.rows.first.map { request.tape.elements(of: $0).count } ?? 0
        var body = ByteBuffer()
        body.reserveCapacity(request.tape.bytes.readableBytes + 160)
        body.writeStaticString("{\"id\":\"")
        body.writeString(requestID.publicText)
        body.writeStaticString("\",\"inputs\":[{\"name\":\"input0\",\"shape\":[")
        body.writeString("\(request.rows.count),\(columns)")
        body.writeStaticString("],\"datatype\":\"FP64\",\"data\":[")
        for (index, row) in request.rows.enumerated() {
            if index > 0 { body.writeStaticString(",") }
            var inner = request.tape.slice(row)
            inner.moveReaderIndex(forwardBy: 1)
            body.writeImmutableBuffer(
                inner.getSlice(at: inner.readerIndex, length: inner.readableBytes - 1) ?? ByteBuffer())
        }
        body.writeStaticString("]}]}")
        return body
    }

    /// - Returns: `nil` for anything that is not a usable answer; the worker is not trusted.
    static func read(
        _ body: ByteBuffer, from workerProtocol: WorkerProtocol, to request: InferenceRequest
    ) -> WorkerReading? {
        switch request {
        case .predict(let request): read(body, from: workerProtocol, isBatch: request.isBatch)
        case .openAI(let request): OpenAIDialect.read(body, surface: request.surface, model: request.model)
        case .infer(let request): read(body, from: workerProtocol, to: request)
        case .generate(let request): GenerateAnswer.read(body, from: workerProtocol == .openai, to: request)
        }
    }

    private static func read(
        _ body: ByteBuffer, from workerProtocol: WorkerProtocol, to request: InferRequest
    ) -> WorkerReading? {
        guard let tape = try? JSONTape(body), tape.kind(tape.root) == .object else { return nil }
        if workerProtocol == .predict {
            guard let plain = readPredict(tape), let prediction = tape.member("prediction", of: tape.root),
                let kept = try? InferAnswer.read(
                    prediction: prediction,
                    probabilities: plain.probabilities == nil ? nil : tape.member("probabilities", of: tape.root),
                    of: tape, rows: request.rows?.count ?? 1, wanted: request)
            else { return nil }
            return WorkerReading(
                prediction: kept, probabilities: nil, version: plain.version, inputTokens: plain.inputTokens,
                cachedInputTokens: plain.cachedInputTokens, outputTokens: plain.outputTokens)
        }
        guard let kept = try? InferAnswer.read(tape, wanted: request) else { return nil }
        return reading(
            tape, prediction: kept, probabilities: nil,
            version: tape.member("model_version", of: tape.root).flatMap { tape.string($0) },
            counts: tape.member("parameters", of: tape.root))
    }

    private static func read(
        _ body: ByteBuffer, from workerProtocol: WorkerProtocol, isBatch: Bool
    ) -> WorkerReading? {
        guard let tape = try? JSONTape(body), tape.kind(tape.root) == .object else { return nil }
        switch workerProtocol {
        case .predict, .openai: return readPredict(tape)
        case .oip: return readInfer(tape, isBatch: isBatch)
        }
    }

    private static func readPredict(_ tape: JSONTape) -> WorkerReading? {
        guard let prediction = tape.member("prediction", of: tape.root) else { return nil }
        let probabilities = tape.member("probabilities", of: tape.root).flatMap { tape.kind($0) == .null ? nil : $0 }
        let usage = tape.member("usage", of: tape.root)
        return reading(
            tape, prediction: tape.slice(prediction), probabilities: probabilities.map { tape.slice($0) },
            version: tape.member("version", of: tape.root).flatMap { tape.string($0) }, counts: usage)
    }

    private static func readInfer(_ tape: JSONTape, isBatch: Bool) -> WorkerReading? {
        guard let outputs = tape.member("outputs", of: tape.root) else { return nil }
        var prediction: ByteBuffer?
        var probabilities: ByteBuffer?
        for output in tape.elements(of: outputs) {
            guard let name = tape.member("name", of: output), let data = tape.member("data", of: output),
                tape.kind(data) == .array
            else { return nil }
            if tape.matches(name, "probabilities") {
                probabilities =
                    isBatch
                    ? rows(of: data, shape: tape.member("shape", of: output), tape) : tape.slice(flat(data, tape))
            } else if prediction == nil {
                let values = tape.elements(of: data)
                prediction = !isBatch && values.count == 1 ? tape.slice(values[0]) : tape.slice(data)
            }
        }
        guard let prediction else { return nil }
        return reading(
            tape, prediction: prediction, probabilities: probabilities,
            version: tape.member("model_version", of: tape.root).flatMap { tape.string($0) },
            counts: tape.member("parameters", of: tape.root))
    }

    static func reading(
        _ tape: JSONTape, prediction: ByteBuffer, probabilities: ByteBuffer?, version: String?, counts: JSONTape.Value?
    ) -> WorkerReading? {
        func count(_ name: StaticString) -> (isUsable: Bool, value: Int64?) {
            guard let value = counts.flatMap({ tape.member(name, of: $0) }), tape.kind(value) != .null else {
                return (true, nil)
            }
            guard let number = tape.int64(value), number >= 0 else { return (false, nil) }
            return (true, number)
        }
        let input = count("input_tokens")
        let cached = count("cached_input_tokens")
        let output = count("output_tokens")
        // A count that is negative, fractional or beyond 64 bits makes the whole answer unusable: it cannot be billed.
        guard input.isUsable, cached.isUsable, output.isUsable else { return nil }
        return WorkerReading(
            prediction: prediction, probabilities: probabilities, version: version, inputTokens: input.value,
            cachedInputTokens: cached.value, outputTokens: output.value)
    }

    /// A nested row `[[…]]` of one as `[…]`.
    private static func flat(_ data: JSONTape.Value, _ tape: JSONTape) -> JSONTape.Value {
        let elements = tape.elements(of: data)
        return elements.count == 1 && tape.kind(elements[0]) == .array ? elements[0] : data
    }

    /// Row-major data of shape [n, k] as n arrays of k.
    private static func rows(of data: JSONTape.Value, shape: JSONTape.Value?, _ tape: JSONTape) -> ByteBuffer? {
        let values = tape.elements(of: data)
        if let first = values.first, tape.kind(first) == .array { return tape.slice(data) }
        guard let shape, let count = tape.elements(of: shape).first.flatMap({ tape.int64($0) }), count > 0,
            !values.isEmpty,
            values.count % Int(clamping: count) == 0
        else { return nil }
        let width = values.count / Int(clamping: count)
        var output = ByteBuffer()
        output.writeStaticString("[")
        for (index, value) in values.enumerated() {
            output.writeStaticString(index % width == 0 ? (index == 0 ? "[" : "],[") : ",")
            output.writeImmutableBuffer(tape.slice(value))
        }
        output.writeStaticString("]]")
        return output
    }
}
