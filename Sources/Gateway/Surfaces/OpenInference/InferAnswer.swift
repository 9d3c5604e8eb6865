internal import HTTPListener
internal import NIOCore

/// What a worker answered to an inference request, in the one form in which it is kept: `{"parameters"?,"outputs":[…]}`, every output flat
/// and JSON. Who asked, under which id and in which form is no part of it, so that it can be given to others.
enum InferAnswer {
    /// Reads the answer of a worker of the Open Inference Protocol.
    /// - Parameter outputs: the outputs that were asked for; any where `nil`.
    /// - Throws: what is wrong with it; a worker is not trusted.
    static func read(_ tape: JSONTape, wanted: InferRequest?) throws(TensorFault) -> ByteBuffer {
        guard let list = tape.member("outputs", of: tape.root), tape.kind(list) == .array else {
            throw TensorFault(location: "/outputs", message: "must be a list of tensors")
        }
        let parameters = try TensorParameters(
            withoutNulls: tape.member("parameters", of: tape.root), of: tape, at: "/parameters")
        let elements = tape.elements(of: list)
        guard elements.count <= InferRequest.tensorLimit else {
            throw TensorFault(location: "/outputs", message: "has more than \(InferRequest.tensorLimit) tensors")
        }
        var tensors: [Tensor] = []
        for (index, element) in elements.enumerated() {
            tensors.append(try tensor(element, of: tape, at: "/outputs/\(index)"))
        }
        if let outputs = wanted?.outputs, let request = wanted {
            let answered = tensors
            tensors = []
            for output in outputs {
                let name = request.tape.string(output.name) ?? ""
                guard let found = answered.first(where: { tape.matches($0.name, text: name) }) else {
                    throw TensorFault(location: "/outputs", message: "lacks an output that was asked for")
                }
                tensors.append(found)
            }
        }
        return compose(tensors, parameters, tape)
    }

    static func tensor(
        _ value: JSONTape.Value, of tape: JSONTape, at location: String
    ) throws(TensorFault) -> Tensor {
        let head = try TensorHead(value, of: tape, at: location)
        guard let data = tape.member("data", of: value) else {
            throw TensorFault(location: "\(location)/data", message: "is missing")
        }
        return try Tensor(
            name: head.name, datatype: head.datatype, shape: head.shape,
            parameters: TensorParameters(
                withoutNulls: tape.member("parameters", of: value), of: tape, at: "\(location)/parameters"),
            data: data, tape: tape, at: location)
    }

    private static func compose(_ tensors: [Tensor], _ parameters: TensorParameters, _ tape: JSONTape) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(tape.bytes.readableBytes)
        buffer.writeStaticString("{\"outputs\":[")
        for (index, tensor) in tensors.enumerated() {
            if index > 0 { buffer.writeStaticString(",") }
            writeHead(tensor, tape, to: &buffer)
            tensor.parameters.write(tape, to: &buffer)
            buffer.writeStaticString(",\"data\":")
            tensor.writeJSON(tape, to: &buffer)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("]")
        parameters.write(tape, to: &buffer)
        buffer.writeStaticString("}")
        return buffer
    }

    static func writeHead(_ tensor: Tensor, _ tape: JSONTape, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("{\"name\":")
        buffer.writeImmutableBuffer(tape.slice(tensor.name))
        buffer.writeStaticString(",\"shape\":")
        buffer.writeShape(tensor.shape.sizes)
        buffer.writeStaticString(",\"datatype\":\"")
        buffer.writeString(tensor.datatype.rawValue)
        buffer.writeStaticString("\"")
    }

    // MARK: plain predict

    /// The answer of a worker of plain predict as outputs named `prediction` and, where there are any, `probabilities`.
    static func read(
        prediction: JSONTape.Value, probabilities: JSONTape.Value?, of tape: JSONTape, rows: Int, wanted: InferRequest
    ) throws(TensorFault) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(tape.bytes.readableBytes + 128)
        buffer.writeStaticString("{\"outputs\":[")
        var isFirst = true
        for (name, value) in [("prediction", prediction), ("probabilities", probabilities)] {
            guard let value else { continue }
            if let outputs = wanted.outputs, !outputs.contains(where: { wanted.tape.matches($0.name, text: name) }) {
                continue
            }
            if !isFirst { buffer.writeStaticString(",") }
            isFirst = false
            try write(value, named: name, of: tape, rows: rows, to: &buffer)
        }
        buffer.writeStaticString("]}")
        return buffer
    }

    /// The shape follows from the nesting, and the datatype from what is in it: whole numbers are INT64, and FP64 where one is not.
    private static func write(
        _ value: JSONTape.Value, named name: String, of tape: JSONTape, rows: Int, to buffer: inout ByteBuffer
    ) throws(TensorFault) {
        let location = "/\(name)"
        var sizes = rows == 1 ? [1] : []
        var cursor = value
        while tape.kind(cursor) == .array {
            let elements = tape.elements(of: cursor)
            sizes.append(elements.count)
            guard let first = elements.first else { break }
            cursor = first
        }
        let shape = try TensorShape(sizes, at: location)
        guard sizes.first == rows, shape.elementCount > 0 else {
            throw TensorFault(location: location, message: "has not one element for each of the \(rows) rows")
        }
        let datatype = try datatype(of: value, tape, at: location)
        buffer.writeStaticString("{\"name\":\"")
        buffer.writeString(name)
        buffer.writeStaticString("\",\"shape\":")
        buffer.writeShape(sizes)
        buffer.writeStaticString(",\"datatype\":\"")
        buffer.writeString(datatype.rawValue)
        buffer.writeStaticString("\",\"data\":")
        guard tape.kind(value) == .array else {
            buffer.writeStaticString("[")
            buffer.writeImmutableBuffer(tape.slice(value))
            buffer.writeStaticString("]}")
            return
        }
        // The row alone is not nested, although its shape begins with it.
        let own = try TensorShape(rows == 1 ? Array(sizes.dropFirst()) : sizes, at: location)
        let tensor = try Tensor(
            name: value, datatype: datatype, shape: own, parameters: .none, data: value, tape: tape, at: location)
        tensor.writeJSON(tape, to: &buffer)
        buffer.writeStaticString("}")
    }

    private static func datatype(
        of value: JSONTape.Value, _ tape: JSONTape, at location: String
    ) throws(TensorFault) -> TensorDatatype {
        var found: TensorDatatype?
        var isMixed = false
        func look(_ value: JSONTape.Value) {
            let kind: TensorDatatype
            switch tape.kind(value) {
            case .array: return tape.forEachElement(of: value, look)
            case .string: kind = .bytes
            case .true, .false: kind = .bool
            case .number: kind = tape.int64(value) == nil ? .float64 : .int64
            case .object, .null: return isMixed = true
            }
            switch (found, kind) {
            case (nil, _): found = kind
            case (.int64?, .float64), (.float64?, .int64): found = .float64
            default: if found != kind { isMixed = true }
            }
        }
        look(value)
        guard let found, !isMixed else {
            throw TensorFault(location: location, message: "holds what is no tensor")
        }
        return found
    }
}

extension TensorParameters {
    /// As workers write them: some write what they have not as `null`, or keep objects of their own there. Neither is passed on, nor is a size
    /// of binary data, as there are none.
    fileprivate init(
        withoutNulls value: JSONTape.Value?, of tape: JSONTape, at location: String
    ) throws(TensorFault) {
        self = .none
        guard let value, tape.kind(value) != .null else { return }
        guard tape.kind(value) == .object else {
            throw TensorFault(location: location, message: "must be an object")
        }
        tape.forEachMember(of: value) { name, value in
            switch tape.kind(value) {
            case .string, .number, .true, .false: members.append(Member(name: name, value: value))
            case .object, .array, .null: break
            }
        }
        _ = take("binary_data_size", of: tape)
    }
}
