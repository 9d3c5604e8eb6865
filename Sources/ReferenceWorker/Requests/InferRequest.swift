/// The body of `POST /v2/models/{m}[/versions/{v}]/infer`, Open Inference Protocol v2, section "Inference Request".
struct InferRequest {
    /// Echoed in the answer when given.
    var id: String?
    var inputs: [InputTensor] = []
    /// The outputs asked for, in the order of the answer; all of the model's where it is `nil`.
    var outputs: [String]?

    init(_ bytes: [UInt8]) throws(JSONError) {
        var reader = JSONReader(bytes)
        var seen: Set<String> = []
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard seen.insert(key).inserted else { throw reader.unexpected("the key \"\(key)\" stands twice") }
            switch key {
            case "id": id = try reader.readString(of: key)
            case "parameters": try reader.checkParameters()
            case "inputs":
                try reader.enterArray(of: key)
                while try reader.nextElement() {
                    inputs.append(try InputTensor(&reader, name: "inputs[\(inputs.count)]"))
                }
            case "outputs":
                var names: [String] = []
                try reader.enterArray(of: key)
                while try reader.nextElement() {
                    names.append(try Self.outputName(&reader, name: "outputs[\(names.count)]"))
                }
                // "If not specified all outputs": an empty list specifies none.
                outputs = names.isEmpty ? nil : names
            default: try reader.skipValue()
            }
        }
        try reader.finish()
        guard seen.contains("inputs") else {
            throw JSONError(kind: .missing, message: "missing key \"inputs\"", offset: nil)
        }
    }

    private static func outputName(_ reader: inout JSONReader, name: String) throws(JSONError) -> String {
        var result: String?
        try reader.enterObject()
        while let key = try reader.nextKey() {
            switch key {
            case "name":
                guard result == nil else { throw reader.unexpected("\(name): the key \"name\" stands twice") }
                result = try reader.readString(of: key)
            case "parameters": try reader.checkParameters()
            default: try reader.skipValue()
            }
        }
        guard let result else { throw JSONError(kind: .missing, message: "\(name): missing key \"name\"", offset: nil) }
        return result
    }
}

/// One input of an inference request. Its data stays text until the model is known.
struct InputTensor {
    /// How messages call it: `inputs[0]`.
    let position: String
    let shape: [Int]
    let datatype: TensorDatatype
    /// A bookmark at the data, which may come before the shape that it has to match.
    private let data: JSONReader

    init(_ reader: inout JSONReader, name position: String) throws(JSONError) {
        var seen: Set<String> = []
        var shape: [Int]?
        var datatype: TensorDatatype?
        var data: JSONReader?
        try reader.enterObject()
        while let key = try reader.nextKey() {
            guard seen.insert(key).inserted else {
                throw reader.unexpected("\(position): the key \"\(key)\" stands twice")
            }
            switch key {
            case "name": _ = try reader.readString(of: key)
            case "shape": shape = try Self.readShape(&reader)
            case "datatype":
                let text = try reader.readString(of: key)
                guard let known = TensorDatatype(rawValue: text) else {
                    throw reader.unexpected("\(position): unknown datatype")
                }
                datatype = known
            case "parameters": try reader.checkParameters()
            case "data":
                data = reader
                try reader.skipValue()
            default: try reader.skipValue()
            }
        }
        func required<Value>(_ value: Value?, _ key: String) throws(JSONError) -> Value {
            guard let value else {
                throw JSONError(kind: .missing, message: "\(position): missing key \"\(key)\"", offset: nil)
            }
            return value
        }
        guard seen.contains("name") else {
            throw JSONError(kind: .missing, message: "\(position): missing key \"name\"", offset: nil)
        }
        self.position = position
        self.shape = try required(shape, "shape")
        self.datatype = try required(datatype, "datatype")
        self.data = try required(data, "data")
    }

    private static func readShape(_ reader: inout JSONReader) throws(JSONError) -> [Int] {
        var shape: [Int] = []
        try reader.enterArray(of: "shape")
        while try reader.nextElement() {
            let start = reader.offset
            let (isNegative, magnitude) = try reader.readInteger()
            guard !isNegative || magnitude == 0, let size = Int(exactly: magnitude) else {
                throw JSONError(kind: .unexpected, message: "a dimension is negative or too large", offset: start)
            }
            shape.append(size)
        }
        return shape
    }

    /// The product of the shape; 1 for the empty shape of a scalar.
    func elementCount() throws(JSONError) -> Int {
        var product = 1
        for size in shape {
            let (next, overflows) = product.multipliedReportingOverflow(by: size)
            guard !overflows else {
                throw JSONError(
                    kind: .unexpected, message: "\(position): the product of the shape overflows", offset: nil)
            }
            product = next
        }
        return product
    }

    /// The elements in row-major order. Flat data has as many as the shape's product; nested data has the shape itself,
    /// level by level.
    func values() throws(JSONError) -> [Double] {
        let expected = try elementCount()
        var reader = data
        var values: [Double] = []
        // An element takes two bytes with its comma, so a wild shape cannot reserve more than a multiple of the body.
        values.reserveCapacity(min(expected, reader.bytes.count))
        guard reader.peek() == UInt8(ascii: "[") else {
            throw reader.unexpected("\(position): \"data\" has to be a list")
        }
        var probe = reader
        try probe.enterArray()
        let isNested = try probe.nextElement() && probe.peek() == UInt8(ascii: "[")
        do throws(JSONError) {
            try read(&reader, into: &values, sizes: isNested ? shape[...] : [expected])
        } catch {
            throw JSONError(kind: error.kind, message: "\(position): \(error.message)", offset: error.offset)
        }
        return values
    }

    /// Recursion is bounded by the reader, which does not enter an array beyond its maximum depth.
    private func read(_ reader: inout JSONReader, into values: inout [Double], sizes: ArraySlice<Int>) throws(JSONError)
    {
        guard let size = sizes.first else {
            values.append(try datatype.readElement(&reader))
            return
        }
        guard reader.peek() == UInt8(ascii: "[") else {
            throw reader.unexpected("the data is not nested as the shape says")
        }
        let start = reader.offset
        var count = 0
        try reader.enterArray()
        while try reader.nextElement() {
            guard count < size else {
                throw JSONError(
                    kind: .unexpected, message: "there are more than the \(size) elements that the shape says",
                    offset: start)
            }
            try read(&reader, into: &values, sizes: sizes.dropFirst())
            count += 1
        }
        guard count == size else {
            throw JSONError(
                kind: .unexpected, message: "there are \(count) elements where the shape says \(size)", offset: start)
        }
    }
}

extension JSONReader {
    /// "Parameters" of the protocol: an object whose values are strings, numbers or booleans.
    fileprivate mutating func checkParameters() throws(JSONError) {
        guard peek() == UInt8(ascii: "{") else { throw unexpected("\"parameters\" has to be an object") }
        try enterObject()
        while let key = try nextKey() {
            switch peek() {
            case UInt8(ascii: "{"), UInt8(ascii: "["), UInt8(ascii: "n"):
                throw unexpected("parameter \"\(key)\" has to be a string, a number or a boolean")
            case UInt8(ascii: "\""), UInt8(ascii: "t"), UInt8(ascii: "f"): try skipValue()
            default: _ = try readDouble()
            }
        }
    }

    fileprivate mutating func readString(of key: String) throws(JSONError) -> String {
        guard peek() == UInt8(ascii: "\"") else { throw unexpected("\"\(key)\" has to be a string") }
        return try readString()
    }

    fileprivate mutating func enterArray(of key: String) throws(JSONError) {
        guard peek() == UInt8(ascii: "[") else { throw unexpected("\"\(key)\" has to be a list") }
        try enterArray()
    }
}
