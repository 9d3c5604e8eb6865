/// A Swift type that can be read from the binary form of some PostgreSQL types.
public protocol PostgresDecodable: Sendable {
    /// The types that it can be read from.
    static var postgresTypes: [PostgresType] { get }
    /// Reads a value that is not NULL; nil when the bytes are not of that form.
    /// - Parameter postgresBytes: the server's bytes, valid during the call only.
    init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType)
}

private func integer<Value: FixedWidthInteger>(_ bytes: UnsafeRawBufferPointer) -> Value? {
    guard bytes.count == MemoryLayout<Value>.size else { return nil }
    return Value(bigEndian: bytes.loadUnaligned(as: Value.self))
}

extension Bool: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.bool] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let byte: UInt8 = integer(postgresBytes) else { return nil }
        self = byte != 0
    }
}

extension Int16: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.int2] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let value: Int16 = integer(postgresBytes) else { return nil }
        self = value
    }
}

extension Int32: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.int4] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let value: Int32 = integer(postgresBytes) else { return nil }
        self = value
    }
}

extension Int64: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.int8] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let value: Int64 = integer(postgresBytes) else { return nil }
        self = value
    }
}

extension UInt64: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.xid8] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let value: UInt64 = integer(postgresBytes) else { return nil }
        self = value
    }
}

extension Double: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.float8] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let bits: UInt64 = integer(postgresBytes) else { return nil }
        self = Double(bitPattern: bits)
    }
}

extension String: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.text, .varchar, .json, .jsonb] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let text = textBytes(postgresBytes, type) else { return nil }
        self.init(validating: text, as: UTF8.self)
    }
}

extension [UInt8]: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.bytea, .text, .varchar, .json, .jsonb] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let bytes = textBytes(postgresBytes, type) else { return nil }
        self.init(bytes)
    }
}

/// Without the version byte of `jsonb`, of which only 1 exists.
private func textBytes(_ bytes: UnsafeRawBufferPointer, _ type: PostgresType) -> Slice<UnsafeRawBufferPointer>? {
    guard type == .jsonb else { return bytes[...] }
    return bytes.first == 1 ? bytes.dropFirst() : nil
}

extension PostgresUUID: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.uuid] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard postgresBytes.count == 16 else { return nil }
        self.init(
            high: UInt64(bigEndian: postgresBytes.loadUnaligned(as: UInt64.self)),
            low: UInt64(bigEndian: postgresBytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
}

extension PostgresTimestamp: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.timestamptz] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let wire: Int64 = integer(postgresBytes) else { return nil }
        self.init(wire: wire)
    }
}

extension PostgresDate: PostgresDecodable {
    public static var postgresTypes: [PostgresType] { [.date] }
    public init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let wire: Int32 = integer(postgresBytes) else { return nil }
        self.init(wire: wire)
    }
}

/// The digits of a `numeric`. NaN and the infinities cannot be read.
struct PostgresDecimalText: PostgresDecodable {
    let text: String

    static var postgresTypes: [PostgresType] { [.numeric] }
    init?(postgresBytes: UnsafeRawBufferPointer, type: PostgresType) {
        guard let text = PostgresNumeric.text(of: postgresBytes) else { return nil }
        self.text = text
    }
}

/// Reads the binary form of an array (`array_send`).
enum PostgresArrayReader {
    /// Nil unless the bytes are an array of that element type with at most one dimension.
    static func elements<Element: PostgresDecodable>(
        of bytes: UnsafeRawBufferPointer, element type: PostgresType, as: Element.Type
    ) -> [Element?]? {
        guard bytes.count >= 12 else { return nil }
        let word = { (offset: Int) in Int32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self)) }
        guard UInt32(bitPattern: word(8)) == type.rawValue else { return nil }
        if word(0) == 0 { return [] }
        guard word(0) == 1, bytes.count >= 20, word(12) >= 0, Int(word(12)) <= (bytes.count - 20) / 4 else {
            return nil
        }
        let count = Int(word(12))
        var elements: [Element?] = []
        elements.reserveCapacity(count)
        var offset = 20
        for _ in 0..<count {
            guard offset + 4 <= bytes.count else { return nil }
            let length = Int(word(offset))
            offset += 4
            if length < 0 {
                elements.append(nil)
                continue
            }
            guard offset + length <= bytes.count,
                let value = Element(
                    postgresBytes: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]), type: type)
            else { return nil }
            elements.append(value)
            offset += length
        }
        return elements
    }
}
