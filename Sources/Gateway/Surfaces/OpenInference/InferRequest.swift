internal import Domain
internal import NIOCore

/// The body of `POST /v2/models/{model}[/versions/{version}]/infer` (Open Inference Protocol v2, section "Inference"), checked, with its
/// elements left where they are: on the tape, or in the bytes behind the JSON (the binary tensor data extension).
struct InferRequest: Sendable {
    /// Inputs of a request, and outputs that it names, at most.
    static let tensorLimit = 256

    /// An output that the caller names.
    struct Output: Sendable {
        let name: JSONTape.Value
        let parameters: TensorParameters
        /// Whether it is wanted in binary form; `nil` where only the request says.
        let isBinary: Bool?
    }

    let model: String
    let version: String?
    /// The whole body: JSON and what is behind it.
    let body: ByteBuffer
    let tape: JSONTape
    /// Echoed in the answer.
    let id: JSONTape.Value?
    let parameters: TensorParameters
    let inputs: [Tensor]
    /// `nil` where the model's are all wanted.
    let outputs: [Output]?
    /// Whether outputs that say nothing themselves are wanted in binary form.
    let prefersBinary: Bool

    /// No tokenizer makes more tokens than bytes, so this bounds the input tokens.
    var byteCount: Int64 { Int64(body.readableBytes) }
    /// Elements of all inputs together.
    var elementCount: Int64 { inputs.reduce(0) { $0 + Int64($1.shape.elementCount) } }

    /// - Parameters:
    ///   - jsonByteCount: the header `Inference-Header-Content-Length`; `nil` where the whole body is JSON.
    init(
        _ body: ByteBuffer, model: String, version: String?, jsonByteCount: Int?
    ) throws(Refusal) {
        self.model = model
        self.version = version
        self.body = body
        guard jsonByteCount ?? 0 <= body.readableBytes, jsonByteCount ?? 0 >= 0 else {
            throw .invalid(
                "Inference-Header-Content-Length", "says more bytes than the body has",
                fix: "Send the length of the JSON before the first byte of binary data.")
        }
        let json = jsonByteCount.flatMap { body.getSlice(at: body.readerIndex, length: $0) } ?? body
        do throws(JSONTape.Failure) {
            tape = try JSONTape(json)
        } catch {
            throw Refusal(error)
        }
        guard tape.kind(tape.root) == .object else {
            throw Refusal(.invalidJSON, "The body must be a JSON object with inputs.")
        }
        var binary = body
        binary.moveReaderIndex(forwardBy: json.readableBytes)
        do throws(TensorFault) {
            let members = try InferMembers(tape, model: model, version: version)
            id = members.id
            var parameters = try TensorParameters(members.parameters, of: tape, at: "/parameters")
            prefersBinary = try parameters.takeFlag("binary_data_output", of: tape, at: "/parameters") ?? false
            try parameters.checkServed(tape, at: "/parameters")
            self.parameters = parameters
            var reader = InferTensorReader(tape: tape, binary: binary, isBinaryAllowed: jsonByteCount != nil)
            inputs = try reader.inputs(members.inputs)
            outputs = try reader.outputs(members.outputs)
        } catch {
            throw error.refusal
        }
    }

    /// Whether an output is wanted in binary form.
    func wantsBinary(_ name: String) -> Bool {
        guard let outputs else { return prefersBinary }
        return outputs.first { tape.matches($0.name, text: name) }?.isBinary ?? prefersBinary
    }

    /// Whether an answer may hold anything in binary form.
    var mayWantBinary: Bool { prefersBinary || outputs?.contains { $0.isBinary == true } ?? false }
}

extension TensorFault {
    var refusal: Refusal {
        .invalid(location, message, fix: "See the Open Inference Protocol v2, section Inference.")
    }
}

extension TensorParameters {
    /// Those that would reach beyond the request: memory that caller and worker share, a place in a worker's sequence, and another's turn.
    private static let unserved: [StaticString] = [
        "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "sequence_id", "sequence_start",
        "sequence_end", "priority",
    ]

    fileprivate func checkServed(_ tape: JSONTape, at location: String) throws(TensorFault) {
        for name in Self.unserved where value(name, of: tape) != nil {
            throw TensorFault(
                location: "\(location)/\(name)",
                message: "is not served: workers are shared, and no request may reach beyond itself there")
        }
    }
}

/// The members of the outermost object.
private struct InferMembers {
    var id: JSONTape.Value?
    var parameters: JSONTape.Value?
    var inputs: JSONTape.Value?
    var outputs: JSONTape.Value?

    init(_ tape: JSONTape, model: String, version: String?) throws(TensorFault) {
        var fault: TensorFault?
        tape.forEachMember(of: tape.root) { key, value in
            if tape.matches(key, "inputs") {
                inputs = value
            } else if tape.matches(key, "outputs") {
                outputs = tape.kind(value) == .null ? nil : value
            } else if tape.matches(key, "parameters") {
                parameters = value
            } else if tape.matches(key, "id") {
                switch tape.kind(value) {
                case .string: id = value
                // Libraries write what was not given so.
                case .null: break
                default: fault = TensorFault(location: "/id", message: "must be a string")
                }
            } else if tape.matches(key, "model_name") {
                if !tape.matches(value, text: model) {
                    fault = TensorFault(location: "/model_name", message: "is not the model of the path")
                }
            } else if tape.matches(key, "model_version") {
                if tape.kind(value) != .null, version.map({ tape.matches(value, text: $0) }) != true {
                    fault = TensorFault(location: "/model_version", message: "is not the version of the path")
                }
            } else {
                // The name is the caller's own text, cut so that an answer cannot be made large with it.
                let name = String((tape.string(key) ?? "").unicodeScalars.prefix(64).map { Character($0) })
                fault = TensorFault(location: "/\(name)", message: "is not a field of an inference request")
            }
        }
        if let fault { throw fault }
        if let id, tape.withBytes(of: id, { $0.count }) > 1_024 {
            throw TensorFault(location: "/id", message: "is longer than 1,024 bytes")
        }
    }
}

/// Reads tensors in the order in which their binary data stand.
private struct InferTensorReader {
    let tape: JSONTape
    var binary: ByteBuffer
    let isBinaryAllowed: Bool

    mutating func inputs(_ list: JSONTape.Value?) throws(TensorFault) -> [Tensor] {
        guard let list, tape.kind(list) == .array else {
            throw TensorFault(location: "/inputs", message: "must be a list of tensors")
        }
        let elements = tape.elements(of: list)
        guard (1...InferRequest.tensorLimit).contains(elements.count) else {
            throw TensorFault(location: "/inputs", message: "must have 1 to \(InferRequest.tensorLimit) tensors")
        }
        var inputs: [Tensor] = []
        inputs.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() { inputs.append(try input(element, at: "/inputs/\(index)")) }
        try checkNames(inputs.map(\.name), at: "/inputs")
        guard binary.readableBytes == 0 else {
            throw TensorFault(
                location: "/inputs", message: "leave \(binary.readableBytes) bytes of the binary data over")
        }
        return inputs
    }

    private mutating func input(_ value: JSONTape.Value, at location: String) throws(TensorFault) -> Tensor {
        var parameters = try TensorParameters(
            tape.member("parameters", of: value), of: tape, at: "\(location)/parameters")
        let size = parameters.take("binary_data_size", of: tape)
        try parameters.checkServed(tape, at: "\(location)/parameters")
        let head = try TensorHead(value, of: tape, at: location)
        guard let size else {
            guard let data = tape.member("data", of: value) else {
                throw TensorFault(location: "\(location)/data", message: "is missing")
            }
            return try Tensor(
                name: head.name, datatype: head.datatype, shape: head.shape, parameters: parameters, data: data,
                tape: tape, at: location)
        }
        let place = "\(location)/parameters/binary_data_size"
        guard isBinaryAllowed else {
            throw TensorFault(
                location: place,
                message: "needs the header Inference-Header-Content-Length, which says where the JSON ends")
        }
        guard tape.member("data", of: value) == nil else {
            throw TensorFault(location: "\(location)/data", message: "cannot be sent together with binary data")
        }
        guard let length = tape.int64(size), length >= 0, let bytes = binary.readSlice(length: Int(clamping: length))
        else {
            throw TensorFault(
                location: place, message: "must be the number of bytes that the tensor has behind the JSON")
        }
        return try Tensor(
            name: head.name, datatype: head.datatype, shape: head.shape, parameters: parameters, binary: bytes,
            at: location)
    }

    func outputs(_ list: JSONTape.Value?) throws(TensorFault) -> [InferRequest.Output]? {
        guard let list else { return nil }
        guard tape.kind(list) == .array else {
            throw TensorFault(location: "/outputs", message: "must be a list of outputs")
        }
        let elements = tape.elements(of: list)
        guard elements.count <= InferRequest.tensorLimit else {
            throw TensorFault(location: "/outputs", message: "must have at most \(InferRequest.tensorLimit) outputs")
        }
        var outputs: [InferRequest.Output] = []
        for (index, element) in elements.enumerated() {
            let location = "/outputs/\(index)"
            let name = try TensorHead.name(element, of: tape, at: location)
            var parameters = try TensorParameters(
                tape.member("parameters", of: element), of: tape, at: "\(location)/parameters")
            let isBinary = try parameters.takeFlag("binary_data", of: tape, at: "\(location)/parameters")
            try parameters.checkServed(tape, at: "\(location)/parameters")
            outputs.append(InferRequest.Output(name: name, parameters: parameters, isBinary: isBinary))
        }
        try checkNames(outputs.map(\.name), at: "/outputs")
        // "If not specified all outputs": an empty list names none.
        return outputs.isEmpty ? nil : outputs
    }

    private func checkNames(_ names: [JSONTape.Value], at location: String) throws(TensorFault) {
        var seen: Set<String> = []
        for name in names where !seen.insert(tape.string(name) ?? "").inserted {
            throw TensorFault(location: location, message: "have the same name twice")
        }
    }
}

/// What every tensor says of itself, in requests and in answers.
struct TensorHead {
    let name: JSONTape.Value
    let datatype: TensorDatatype
    let shape: TensorShape

    init(_ value: JSONTape.Value, of tape: JSONTape, at location: String) throws(TensorFault) {
        name = try Self.name(value, of: tape, at: location)
        guard let kind = tape.member("datatype", of: value).flatMap({ tape.string($0) }),
            let datatype = TensorDatatype(rawValue: kind)
        else {
            throw TensorFault(
                location: "\(location)/datatype",
                message: "must be one of \(TensorDatatype.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        self.datatype = datatype
        guard let shape = tape.member("shape", of: value) else {
            throw TensorFault(location: "\(location)/shape", message: "is missing")
        }
        self.shape = try TensorShape(shape, of: tape, at: "\(location)/shape")
    }

    static func name(_ value: JSONTape.Value, of tape: JSONTape, at location: String) throws(TensorFault)
        -> JSONTape.Value
    {
        guard tape.kind(value) == .object else { throw TensorFault(location: location, message: "must be an object") }
        guard let name = tape.member("name", of: value), tape.kind(name) == .string,
            (1...256).contains(tape.withBytes(of: name, { $0.count }))
        else { throw TensorFault(location: "\(location)/name", message: "must be a string of 1 to 256 bytes") }
        return name
    }
}
