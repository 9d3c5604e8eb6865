/// The datatypes of tensors in the Open Inference Protocol v2, section "Tensor Data Types".
enum TensorDatatype: String, CaseIterable {
    case boolean = "BOOL"
    case uint8 = "UINT8"
    case uint16 = "UINT16"
    case uint32 = "UINT32"
    case uint64 = "UINT64"
    case int8 = "INT8"
    case int16 = "INT16"
    case int32 = "INT32"
    case int64 = "INT64"
    case float16 = "FP16"
    case float32 = "FP32"
    case float64 = "FP64"
    case bytes = "BYTES"

    /// Reads one element as the number that it stands for. Integers are read as integers and checked against their
    /// type's range; the models here compute in doubles, so one that a double cannot hold is refused instead of
    /// rounded. Decimals are taken as written and are not rounded to `FP16` or `FP32` first: JSON carries decimals, and
    /// the type bounds their range.
    func readElement(_ reader: inout JSONReader) throws(JSONError) -> Double {
        switch self {
        case .boolean: return try reader.readBoolean() ? 1 : 0
        case .uint8: return try readInteger(&reader, UInt8.self)
        case .uint16: return try readInteger(&reader, UInt16.self)
        case .uint32: return try readInteger(&reader, UInt32.self)
        case .uint64: return try readInteger(&reader, UInt64.self)
        case .int8: return try readInteger(&reader, Int8.self)
        case .int16: return try readInteger(&reader, Int16.self)
        case .int32: return try readInteger(&reader, Int32.self)
        case .int64: return try readInteger(&reader, Int64.self)
        case .float16: return try readDecimal(&reader, bound: 65_504)
        case .float32: return try readDecimal(&reader, bound: Double(Float.greatestFiniteMagnitude))
        case .float64: return try reader.readDouble()
        case .bytes: throw reader.unexpected("the model takes numbers, not \(rawValue)")
        }
    }

    private func readInteger<Integer: FixedWidthInteger>(
        _ reader: inout JSONReader, _ type: Integer.Type
    ) throws(JSONError) -> Double {
        let start = reader.offset
        let (isNegative, magnitude) = try reader.readInteger()
        // Negated in the type itself, as the magnitude of Int64.min has no positive Int64.
        let value: Integer? =
            if isNegative, magnitude > 0 {
                Integer.isSigned && magnitude <= UInt64(Integer.min.magnitude)
                    ? Integer(truncatingIfNeeded: 0 &- magnitude) : nil
            } else {
                Integer(exactly: magnitude)
            }
        guard let value else {
            throw JSONError(kind: .unexpected, message: "a number does not fit \(rawValue)", offset: start)
        }
        guard let double = Double(exactly: value) else {
            throw JSONError(
                kind: .unexpected, message: "\(value) has no exact FP64, which the model computes in", offset: start)
        }
        return double
    }

    private func readDecimal(_ reader: inout JSONReader, bound: Double) throws(JSONError) -> Double {
        let start = reader.offset
        let value = try reader.readDouble()
        guard value.magnitude <= bound else {
            throw JSONError(kind: .unexpected, message: "a number does not fit \(rawValue)", offset: start)
        }
        return value
    }
}
