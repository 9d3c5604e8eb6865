internal import HTTPListener
internal import NIOCore

/// Elements of tensors as the binary tensor data extension sends them: little-endian, one after the other; BOOL as a byte of 0 or 1; each of
/// BYTES behind its length in four bytes.
enum BinaryElements {
    /// Checks what JSON could not carry, because workers are sent JSON: the count, the bytes of BOOL, numbers that are not finite, and of
    /// BYTES what is no text.
    static func check(
        _ bytes: ByteBuffer, _ datatype: TensorDatatype, count: Int, at location: String
    ) throws(TensorFault) {
        guard let width = datatype.byteWidth else { return try checkTexts(bytes, count: count, at: location) }
        let (expected, overflow) = count.multipliedReportingOverflow(by: width)
        guard !overflow, bytes.readableBytes == expected else {
            throw TensorFault(
                location: location,
                message:
                    "has \(bytes.readableBytes) bytes of data where \(count) elements of \(datatype.rawValue) are expected"
            )
        }
        let isSound = bytes.withUnsafeReadableBytes { (bytes: UnsafeRawBufferPointer) -> Bool in
            switch datatype {
            case .bool: bytes.allSatisfy { $0 < 2 }
            case .float16:
                allAre(bytes, UInt16.self) { $0 & 0x7C00 != 0x7C00 }
            case .float32:
                allAre(bytes, UInt32.self) { $0 & 0x7F80_0000 != 0x7F80_0000 }
            case .float64:
                allAre(bytes, UInt64.self) { $0 & 0x7FF0_0000_0000_0000 != 0x7FF0_0000_0000_0000 }
            default: true
            }
        }
        guard isSound else {
            throw TensorFault(
                location: location,
                message: datatype == .bool
                    ? "holds a byte that is neither 0 nor 1, as the datatype is BOOL"
                    : "holds a number that is not finite")
        }
    }

    private static func allAre<Pattern: FixedWidthInteger>(
        _ bytes: UnsafeRawBufferPointer, _: Pattern.Type, _ isFinite: (Pattern) -> Bool
    ) -> Bool {
        stride(from: 0, to: bytes.count, by: MemoryLayout<Pattern>.size).allSatisfy { offset in
            isFinite(Pattern(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Pattern.self)))
        }
    }

    private static func checkTexts(_ bytes: ByteBuffer, count: Int, at location: String) throws(TensorFault) {
        var reader = bytes
        var found = 0
        while reader.readableBytes > 0 {
            guard let length = reader.readInteger(endianness: .little, as: UInt32.self),
                let text = reader.readSlice(length: Int(length))
            else { throw TensorFault(location: location, message: "has a text that is cut off") }
            let isText = text.withUnsafeReadableBytes { bytes in
                !bytes.contains(0) && String(validating: bytes, as: UTF8.self) != nil
            }
            guard isText else {
                throw TensorFault(
                    location: location,
                    message: "holds bytes that are no text: workers are sent JSON, which carries UTF-8 without NUL")
            }
            found += 1
        }
        guard found == count else {
            throw TensorFault(location: location, message: "has \(found) elements where the shape says \(count)")
        }
    }

    /// Writes the next element as JSON. Every float is written as the FP64 that it equals, so that it survives being read as one.
    static func writeJSON(_ reader: inout ByteBuffer, _ datatype: TensorDatatype, to buffer: inout ByteBuffer) {
        switch datatype {
        case .bool: buffer.writeStaticString(reader.readInteger(as: UInt8.self) == 1 ? "true" : "false")
        case .uint8: writeInteger(&reader, UInt8.self, to: &buffer)
        case .uint16: writeInteger(&reader, UInt16.self, to: &buffer)
        case .uint32: writeInteger(&reader, UInt32.self, to: &buffer)
        case .uint64: writeInteger(&reader, UInt64.self, to: &buffer)
        case .int8: writeInteger(&reader, Int8.self, to: &buffer)
        case .int16: writeInteger(&reader, Int16.self, to: &buffer)
        case .int32: writeInteger(&reader, Int32.self, to: &buffer)
        case .int64: writeInteger(&reader, Int64.self, to: &buffer)
        case .float16: buffer.writeString(HalfFloat.value(pattern(&reader)).description)
        case .float32: buffer.writeString(Double(Float(bitPattern: pattern(&reader))).description)
        case .float64: buffer.writeString(Double(bitPattern: pattern(&reader)).description)
        case .bytes:
            let length = Int(pattern(&reader) as UInt32)
            buffer.writeJSONString(reader.readString(length: length) ?? "")
        }
    }

    private static func writeInteger<Integer: FixedWidthInteger>(
        _ reader: inout ByteBuffer, _: Integer.Type, to buffer: inout ByteBuffer
    ) {
        buffer.writeString((pattern(&reader) as Integer).description)
    }

    /// The bytes were counted when the tensor was made.
    private static func pattern<Integer: FixedWidthInteger>(_ reader: inout ByteBuffer) -> Integer {
        reader.readInteger(endianness: .little, as: Integer.self) ?? 0
    }

    /// Writes an element of JSON, which was checked when the tensor was made, in binary form.
    static func write(
        _ value: JSONTape.Value, of tape: JSONTape, _ datatype: TensorDatatype, to buffer: inout ByteBuffer
    ) {
        switch datatype {
        case .bool: buffer.writeInteger(tape.kind(value) == .true ? 1 : 0, as: UInt8.self)
        case .bytes:
            let text = tape.string(value) ?? ""
            buffer.writeInteger(UInt32(clamping: text.utf8.count), endianness: .little)
            buffer.writeString(text)
        case .uint8: write(value, of: tape, to: &buffer) { ElementText.integer($0, UInt8.self) }
        case .uint16: write(value, of: tape, to: &buffer) { ElementText.integer($0, UInt16.self) }
        case .uint32: write(value, of: tape, to: &buffer) { ElementText.integer($0, UInt32.self) }
        case .uint64: write(value, of: tape, to: &buffer) { ElementText.integer($0, UInt64.self) }
        case .int8: write(value, of: tape, to: &buffer) { ElementText.integer($0, Int8.self) }
        case .int16: write(value, of: tape, to: &buffer) { ElementText.integer($0, Int16.self) }
        case .int32: write(value, of: tape, to: &buffer) { ElementText.integer($0, Int32.self) }
        case .int64: write(value, of: tape, to: &buffer) { ElementText.integer($0, Int64.self) }
        case .float16: write(value, of: tape, to: &buffer) { ElementText.half($0) }
        case .float32: write(value, of: tape, to: &buffer) { ElementText.single($0)?.bitPattern }
        case .float64: write(value, of: tape, to: &buffer) { ElementText.double($0)?.bitPattern }
        }
    }

    private static func write<Integer: FixedWidthInteger>(
        _ value: JSONTape.Value, of tape: JSONTape, to buffer: inout ByteBuffer,
        _ read: (UnsafeRawBufferPointer) -> Integer?
    ) {
        buffer.writeInteger(tape.withBytes(of: value) { read($0) } ?? 0, endianness: .little)
    }
}
