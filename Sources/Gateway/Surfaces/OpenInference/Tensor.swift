internal import NIOCore

/// One tensor with its elements where they came from: on the tape of a JSON document, or as bytes behind it. Checked whole when it is made.
struct Tensor: Sendable {
    enum Elements: Sendable {
        /// A list, flat or nested as the shape is.
        case json(JSONTape.Value, isNested: Bool)
        /// Row-major and little-endian; of BYTES each element behind its length in four bytes.
        case binary(ByteBuffer)
    }

    /// A string of the tape.
    let name: JSONTape.Value
    let datatype: TensorDatatype
    let shape: TensorShape
    /// Those that concern the model; what says how the tensor is sent is not among them.
    let parameters: TensorParameters
    let elements: Elements

    /// - Parameter location: where the tensor stands, as `/inputs/0`.
    init(
        name: JSONTape.Value, datatype: TensorDatatype, shape: TensorShape, parameters: TensorParameters,
        data: JSONTape.Value, tape: JSONTape, at location: String
    ) throws(TensorFault) {
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.parameters = parameters
        var check = JSONElementCheck(tape: tape, datatype: datatype, location: location + "/data")
        elements = .json(data, isNested: try check.run(data, shape))
    }

    init(
        name: JSONTape.Value, datatype: TensorDatatype, shape: TensorShape, parameters: TensorParameters,
        binary: ByteBuffer, at location: String
    ) throws(TensorFault) {
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.parameters = parameters
        try BinaryElements.check(binary, datatype, count: shape.elementCount, at: location)
        elements = .binary(binary)
    }

    /// The size that the elements have in binary form.
    func binaryByteCount(_ tape: JSONTape) -> Int {
        switch (elements, datatype.byteWidth) {
        case (.binary(let bytes), _): return bytes.readableBytes
        // Checked when it was made: as many elements as that are there, so the product cannot overflow.
        case (.json, let width?): return shape.elementCount * width
        case (.json, nil):
            var count = 0
            forEachElement(tape) { count += 4 + (tape.string($0)?.utf8.count ?? 0) }
            return count
        }
    }

    /// Writes the elements as a flat list of JSON.
    func writeJSON(_ tape: JSONTape, to buffer: inout ByteBuffer) {
        switch elements {
        case .json(let list, isNested: false): buffer.writeImmutableBuffer(tape.slice(list))
        case .json:
            buffer.writeStaticString("[")
            var isFirst = true
            forEachElement(tape) { element in
                if !isFirst { buffer.writeStaticString(",") }
                isFirst = false
                buffer.writeImmutableBuffer(tape.slice(element))
            }
            buffer.writeStaticString("]")
        case .binary(let bytes):
            buffer.writeStaticString("[")
            var reader = bytes
            for index in 0..<shape.elementCount {
                if index > 0 { buffer.writeStaticString(",") }
                BinaryElements.writeJSON(&reader, datatype, to: &buffer)
            }
            buffer.writeStaticString("]")
        }
    }

    /// Writes the elements as rows of so many: `[…],[…]`.
    func writeRows(width: Int, _ tape: JSONTape, to buffer: inout ByteBuffer) {
        var index = 0
        func separate() {
            buffer.writeStaticString(index % width > 0 ? "," : index == 0 ? "[" : "],[")
            index += 1
        }
        switch elements {
        case .json:
            forEachElement(tape) { element in
                separate()
                buffer.writeImmutableBuffer(tape.slice(element))
            }
        case .binary(let bytes):
            var reader = bytes
            for _ in 0..<shape.elementCount {
                separate()
                BinaryElements.writeJSON(&reader, datatype, to: &buffer)
            }
        }
        buffer.writeStaticString("]")
    }

    /// Writes the elements in binary form.
    func writeBinary(_ tape: JSONTape, to buffer: inout ByteBuffer) {
        switch elements {
        case .binary(let bytes): buffer.writeImmutableBuffer(bytes)
        case .json: forEachElement(tape) { BinaryElements.write($0, of: tape, datatype, to: &buffer) }
        }
    }

    /// The elements in row-major order, where they are JSON; none where they are bytes.
    func forEachElement(_ tape: JSONTape, _ body: (JSONTape.Value) -> Void) {
        guard case .json(let list, let isNested) = elements else { return }
        isNested ? Self.descend(list, tape, body) : tape.forEachElement(of: list, body)
    }

    /// As deep as the document, whose depth is bounded.
    private static func descend(_ value: JSONTape.Value, _ tape: JSONTape, _ body: (JSONTape.Value) -> Void) {
        guard tape.kind(value) == .array else { return body(value) }
        tape.forEachElement(of: value) { descend($0, tape, body) }
    }
}

/// Members of an object of parameters: strings, numbers and booleans.
struct TensorParameters: Sendable {
    struct Member: Sendable {
        let name: JSONTape.Value
        let value: JSONTape.Value
    }

    var members: [Member] = []

    static let none = TensorParameters()

    fileprivate init() {}

    /// - Parameter value: `nil` and `null` are no parameters.
    init(_ value: JSONTape.Value?, of tape: JSONTape, at location: String) throws(TensorFault) {
        guard let value, tape.kind(value) != .null else { return }
        guard tape.kind(value) == .object else {
            throw TensorFault(location: location, message: "must be an object")
        }
        var isScalar = true
        tape.forEachMember(of: value) { name, value in
            switch tape.kind(value) {
            case .string, .number, .true, .false: members.append(Member(name: name, value: value))
            case .object, .array, .null: isScalar = false
            }
        }
        guard isScalar else {
            throw TensorFault(location: location, message: "must hold strings, numbers and booleans only")
        }
    }

    func value(_ name: StaticString, of tape: JSONTape) -> JSONTape.Value? {
        members.first { tape.matches($0.name, name) }?.value
    }

    /// Removes a parameter that is not for the model and tells its value.
    mutating func take(_ name: StaticString, of tape: JSONTape) -> JSONTape.Value? {
        guard let index = members.firstIndex(where: { tape.matches($0.name, name) }) else { return nil }
        return members.remove(at: index).value
    }

    /// As ``take(_:of:)``, for one that must be a boolean.
    mutating func takeFlag(
        _ name: StaticString, of tape: JSONTape, at location: String
    ) throws(TensorFault) -> Bool? {
        guard let value = take(name, of: tape) else { return nil }
        switch tape.kind(value) {
        case .true: return true
        case .false: return false
        default: throw TensorFault(location: "\(location)/\(name)", message: "must be true or false")
        }
    }

    /// Writes `,"parameters":{…}`, or nothing where there are none.
    func write(_ tape: JSONTape, to buffer: inout ByteBuffer) {
        guard !members.isEmpty else { return }
        buffer.writeStaticString(",\"parameters\":{")
        for (index, member) in members.enumerated() {
            if index > 0 { buffer.writeStaticString(",") }
            buffer.writeImmutableBuffer(tape.slice(member.name))
            buffer.writeStaticString(":")
            buffer.writeImmutableBuffer(tape.slice(member.value))
        }
        buffer.writeStaticString("}")
    }
}
