internal import Glibc

/// Writes the elements of one array; see `PostgresBinds.appendArray`.
public struct PostgresArrayBuilder: ~Copyable {
    var bytes: [UInt8] = []
    var count = 0
    var hasNull = false
    var hasNUL = false
    var hasWrongType = false
    private let element: PostgresType

    init(element: PostgresType) {
        self.element = element
    }

    mutating func reserve(_ count: Int) {
        let needed = bytes.count + count * (4 + (element.fixedWidth ?? 32))
        // Reserving exactly would turn a row of arrays in one bind into one reallocation each.
        if needed > bytes.capacity { bytes.reserveCapacity(max(needed, bytes.capacity * 2)) }
    }

    public mutating func appendNull() {
        count += 1
        hasNull = true
        bytes.appendBigEndian(Int32(-1))
    }

    public mutating func append(_ value: Bool) { append(value ? UInt8(1) : 0, as: .bool) }
    public mutating func append(_ value: Int16) { append(value, as: .int2) }
    public mutating func append(_ value: Int32) { append(value, as: .int4) }
    public mutating func append(_ value: Int64) { append(value, as: .int8) }
    public mutating func append(_ value: PostgresTimestamp) { append(value.wire, as: .timestamptz) }
    public mutating func append(_ value: PostgresDate) { append(value.wire, as: .date) }

    public mutating func append(_ value: PostgresUUID) {
        count(.uuid)
        bytes.appendPrefixed(value.high, length: 16)
        bytes.appendBigEndian(value.low)
    }

    public mutating func append(_ value: String) {
        begin(.text, length: value.utf8.count)
        if !bytes.appendUTF8(value) { hasNUL = true }
    }

    /// A text element from UTF-8 bytes, which the server checks.
    public mutating func appendText(_ utf8: [UInt8]) {
        begin(.text, length: utf8.count)
        if !bytes.appendText(utf8) { hasNUL = true }
    }

    /// A `jsonb` element from UTF-8 bytes, which the server checks.
    public mutating func appendJSONB(_ utf8: [UInt8]) {
        begin(.jsonb, length: utf8.count + 1)
        bytes.append(1)
        if !bytes.appendText(utf8) { hasNUL = true }
    }

    /// A `bytea` element.
    public mutating func append(_ value: [UInt8]) {
        begin(.bytea, length: value.count)
        bytes.append(contentsOf: value)
    }

    /// An element or NULL.
    public mutating func append(_ value: Int64?) {
        if let value { append(value) } else { appendNull() }
    }

    public mutating func append(_ value: Int32?) {
        if let value { append(value) } else { appendNull() }
    }

    public mutating func append(_ value: PostgresUUID?) {
        if let value { append(value) } else { appendNull() }
    }

    public mutating func append(_ value: PostgresTimestamp?) {
        if let value { append(value) } else { appendNull() }
    }

    public mutating func append(_ value: String?) {
        if let value { append(value) } else { appendNull() }
    }

    public mutating func append(_ value: [UInt8]?) {
        if let value { append(value) } else { appendNull() }
    }

    private mutating func append(_ value: some FixedWidthInteger, as type: PostgresType) {
        count(type)
        bytes.appendPrefixed(value, length: value.bitWidth / 8)
    }

    /// Compares the raw values: `==` of the enumeration is a call through a witness table, which shows here.
    private mutating func count(_ type: PostgresType) {
        if type.rawValue != element.rawValue { hasWrongType = true }
        count += 1
    }

    private mutating func begin(_ type: PostgresType, length: Int) {
        count(type)
        // A truncated length cannot pass: the whole value is then longer than 2 GB, which `PostgresBinds` refuses.
        bytes.appendBigEndian(Int32(truncatingIfNeeded: length))
    }
}

extension [UInt8] {
    mutating func appendBigEndian(_ value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    /// A length and a value of at most 8 bytes in one step: appending is what binding rows costs most of its time for.
    mutating func appendPrefixed(_ value: some FixedWidthInteger, length: Int) {
        let both = UInt128(UInt32(truncatingIfNeeded: length)) << UInt128(value.bitWidth)
        let bits = UInt128(truncatingIfNeeded: value) & (UInt128(1) << UInt128(value.bitWidth) - 1)
        Swift.withUnsafeBytes(of: (both | bits).bigEndian) { wide in
            append(contentsOf: UnsafeRawBufferPointer(rebasing: wide[(12 - value.bitWidth / 8)...]))
        }
    }

    mutating func appendUUID(_ value: PostgresUUID) {
        appendBigEndian(value.high)
        appendBigEndian(value.low)
    }

    /// Whether the text is free of NUL bytes.
    mutating func appendUTF8(_ text: String) -> Bool {
        let isClean = text.utf8.withContiguousStorageIfAvailable { utf8 in
            append(contentsOf: utf8)
            return !Self.hasNUL(UnsafeRawBufferPointer(utf8))
        }
        return isClean ?? appendText(Array(text.utf8))
    }

    /// Whether the text is free of NUL bytes.
    mutating func appendText(_ utf8: [UInt8]) -> Bool {
        append(contentsOf: utf8)
        return !utf8.withUnsafeBytes(Self.hasNUL)
    }

    private static func hasNUL(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress else { return false }
        return memchr(base, 0, bytes.count) != nil
    }
}
