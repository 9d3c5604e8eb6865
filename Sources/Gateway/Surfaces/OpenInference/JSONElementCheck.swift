/// Checks that a list of JSON holds what a tensor's shape and datatype say. Nothing is kept: the numbers stay where they are.
struct JSONElementCheck {
    private let tape: JSONTape
    private let datatype: TensorDatatype
    private let location: String
    private var fault: TensorFault?

    init(tape: JSONTape, datatype: TensorDatatype, location: String) {
        self.tape = tape
        self.datatype = datatype
        self.location = location
    }

    /// - Returns: whether the list is nested as the shape is; else it is flat.
    mutating func run(_ list: JSONTape.Value, _ shape: TensorShape) throws(TensorFault) -> Bool {
        guard tape.kind(list) == .array else {
            throw TensorFault(location: location, message: "must be a list, flat or nested as the shape is")
        }
        let first = list.index + 1
        let isNested =
            shape.sizes.count > 1 && first < Int(tape.tokens[list.index].next) && tape.tokens[first].kind == .array
        if isNested {
            descend(list, shape.sizes[...])
        } else {
            level(list, size: shape.elementCount) { check, element in check.checkElement(element) }
        }
        if let fault { throw fault }
        return isNested
    }

    /// As deep as the shape, whose dimensions are bounded.
    private mutating func descend(_ value: JSONTape.Value, _ sizes: ArraySlice<Int>) {
        guard let size = sizes.first else { return checkElement(value) }
        guard tape.kind(value) == .array else { return fail("is not nested as the shape says") }
        level(value, size: size) { check, element in check.descend(element, sizes.dropFirst()) }
    }

    private mutating func level(
        _ list: JSONTape.Value, size: Int, _ body: (inout JSONElementCheck, JSONTape.Value) -> Void
    ) {
        var index = list.index + 1
        let end = Int(tape.tokens[list.index].next)
        var count = 0
        while index < end, fault == nil {
            if count < size { body(&self, JSONTape.Value(index: index)) }
            count += 1
            index = Int(tape.tokens[index].next)
        }
        if count != size { fail("has \(count) elements where the shape says \(size)") }
    }

    private mutating func checkElement(_ value: JSONTape.Value) {
        let kind = tape.kind(value)
        switch datatype {
        case .bool: if kind != .true, kind != .false { fail("must hold true and false only, as the datatype is BOOL") }
        case .bytes: if kind != .string { fail("must hold strings only, as the datatype is BYTES") }
        default:
            guard kind == .number else {
                return fail("must hold numbers only, as the datatype is \(datatype.rawValue)")
            }
            let fits = tape.withBytes(of: value) { ElementText.fits($0, datatype) }
            if !fits { fail("holds a number that is no \(datatype.rawValue)") }
        }
    }

    private mutating func fail(_ message: String) {
        if fault == nil { fault = TensorFault(location: location, message: message) }
    }
}

/// Numbers of JSON as the machine's types. Integers never become floating point on the way.
enum ElementText {
    /// - Parameter text: a number by the grammar of RFC 8259 that is finite as FP64.
    static func fits(_ text: UnsafeRawBufferPointer, _ datatype: TensorDatatype) -> Bool {
        switch datatype {
        case .uint8: integer(text, UInt8.self) != nil
        case .uint16: integer(text, UInt16.self) != nil
        case .uint32: integer(text, UInt32.self) != nil
        case .uint64: integer(text, UInt64.self) != nil
        case .int8: integer(text, Int8.self) != nil
        case .int16: integer(text, Int16.self) != nil
        case .int32: integer(text, Int32.self) != nil
        case .int64: integer(text, Int64.self) != nil
        case .float16: isShort(text, digits: 4) || half(text) != nil
        case .float32: isShort(text, digits: 38) || single(text) != nil
        case .float64: true
        case .bool, .bytes: false
        }
    }

    /// A whole number written without fraction and exponent; `nil` for any other, and where it does not fit.
    static func integer<Integer: FixedWidthInteger>(
        _ text: UnsafeRawBufferPointer, _: Integer.Type
    ) -> Integer? {
        var digits = text[...]
        let isNegative = digits.first == UInt8(ascii: "-")
        if isNegative { digits = digits.dropFirst() }
        guard !digits.isEmpty else { return nil }
        var number: Integer = 0
        for byte in digits {
            guard (0x30...0x39).contains(byte) else { return nil }
            let (product, overflow) = number.multipliedReportingOverflow(by: 10)
            // A digit fits into every type of eight bits or more.
            let digit = Integer(truncatingIfNeeded: byte - 0x30)
            // Downwards, because the least number has no positive one.
            let (sum, sumOverflow) =
                isNegative
                ? product.subtractingReportingOverflow(digit) : product.addingReportingOverflow(digit)
            guard !overflow, !sumOverflow else { return nil }
            number = sum
        }
        return number
    }

    static func single(_ text: UnsafeRawBufferPointer) -> Float? {
        Float(String(decoding: text, as: UTF8.self)).flatMap { $0.isFinite ? $0 : nil }
    }

    static func double(_ text: UnsafeRawBufferPointer) -> Double? {
        Double(String(decoding: text, as: UTF8.self)).flatMap { $0.isFinite ? $0 : nil }
    }

    static func half(_ text: UnsafeRawBufferPointer) -> UInt16? { double(text).flatMap { HalfFloat.bits($0) } }

    /// Whether a number has no exponent and so few digits before the point that it is below ten to that power.
    private static func isShort(_ text: UnsafeRawBufferPointer, digits: Int) -> Bool {
        var point = text.count
        for (index, byte) in text.enumerated() {
            switch byte {
            case UInt8(ascii: "e"), UInt8(ascii: "E"): return false
            case UInt8(ascii: "."): point = index
            default: continue
            }
        }
        return point - (text.first == UInt8(ascii: "-") ? 1 : 0) <= digits
    }
}
