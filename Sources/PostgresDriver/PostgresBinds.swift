internal import Glibc

/// The bound values of a statement in binary form: one buffer of bytes and the position of each value in it, so that a
/// thousand rows bound as arrays cost no allocation per value.
///
/// Appending never throws. The first value that cannot be sent (a text with a NUL byte, an array with another count
/// than announced) is remembered and thrown when the statement's `bind` has returned, before anything goes to the
/// server.
public struct PostgresBinds: Sendable {
    struct Value: Sendable {
        var type: PostgresType
        /// Start in `bytes`.
        var offset: Int
        /// Length in bytes, -1 for NULL.
        var length: Int32
    }

    private(set) var values: [Value] = []
    /// Begins with one unused byte: libpq tells NULL from an empty value by the pointer, which must therefore never be
    /// nil.
    private(set) var bytes: [UInt8] = [0]
    private(set) var failure: PostgresError?

    public init() {}

    /// Number of values bound so far.
    public var count: Int { values.count }

    mutating func removeAll() {
        values.removeAll(keepingCapacity: true)
        bytes.removeAll(keepingCapacity: true)
        bytes.append(0)
        failure = nil
    }

    /// Gives the memory of an unusually large statement back.
    mutating func shrink(above capacity: Int) {
        if bytes.capacity > capacity { self = PostgresBinds() }
    }

    // MARK: Scalars

    public mutating func append(_ value: Bool?) {
        append(value.map { $0 ? UInt8(1) : 0 }, as: .bool)
    }

    public mutating func append(_ value: Int16?) { append(value, as: .int2) }

    public mutating func append(_ value: Int32?) { append(value, as: .int4) }

    public mutating func append(_ value: Int64?) { append(value, as: .int8) }

    /// A measurement; never money, tokens or time.
    public mutating func append(_ value: Double?) { append(value?.bitPattern, as: .float8) }

    /// A transaction identifier.
    public mutating func appendXID8(_ value: UInt64?) { append(value, as: .xid8) }

    public mutating func append(_ value: PostgresTimestamp?) { append(value?.wire, as: .timestamptz) }

    public mutating func append(_ value: PostgresDate?) { append(value?.wire, as: .date) }

    public mutating func append(_ value: PostgresUUID?) {
        guard let value else { return appendNull(.uuid) }
        begin(.uuid, length: 16)
        bytes.appendUUID(value)
    }

    /// Text. A NUL byte, which the server cannot store, fails the statement with `.encoding`.
    public mutating func append(_ value: String?) {
        guard let value else { return appendNull(.text) }
        let start = begin(.text, length: 0)
        finish(start, isText: bytes.appendUTF8(value))
    }

    /// Text from its UTF-8 bytes, which the server checks.
    public mutating func appendText(_ utf8: [UInt8]?) {
        guard let utf8 else { return appendNull(.text) }
        let start = begin(.text, length: 0)
        finish(start, isText: bytes.appendText(utf8))
    }

    /// Raw bytes.
    public mutating func append(_ value: [UInt8]?) {
        guard let value else { return appendNull(.bytea) }
        begin(.bytea, length: value.count)
        bytes.append(contentsOf: value)
    }

    /// A JSON document from its UTF-8 bytes, as `jsonb`; the server checks it.
    public mutating func appendJSONB(_ utf8: [UInt8]?) {
        guard let utf8 else { return appendNull(.jsonb) }
        // The binary form is the text behind a version byte (jsonb_recv).
        let start = begin(.jsonb, length: 0)
        bytes.append(1)
        finish(start, isText: bytes.appendText(utf8))
    }

    /// A JSON document, as `jsonb`.
    public mutating func appendJSONB(_ text: String?) {
        appendJSONB(text.map { Array($0.utf8) })
    }

    /// A JSON document from its UTF-8 bytes, as `json`: kept as written.
    public mutating func appendJSON(_ utf8: [UInt8]?) {
        guard let utf8 else { return appendNull(.json) }
        let start = begin(.json, length: 0)
        finish(start, isText: bytes.appendText(utf8))
    }

    /// An exact decimal from its digits, such as `-12.0050`. Anything else fails the statement with `.encoding`.
    public mutating func appendNumeric(_ text: String?) {
        guard let text else { return appendNull(.numeric) }
        let start = begin(.numeric, length: 0)
        if !PostgresNumeric.append(text, to: &bytes) { fail("is not a decimal number") }
        finish(start, isText: true)
    }

    /// NULL of a type.
    public mutating func appendNull(_ type: PostgresType) {
        values.append(Value(type: type, offset: 0, length: -1))
    }

    // MARK: Arrays

    /// A one-dimensional array whose elements are written straight into the buffer.
    ///
    /// - Parameters:
    ///   - element: the type of the elements; one with an array type.
    ///   - count: how many elements `fill` will append. Another number fails the statement with `.encoding`.
    public mutating func appendArray(
        of element: PostgresType, count: Int, _ fill: (inout PostgresArrayBuilder) -> Void
    ) {
        guard let type = element.array, let length = Int32(exactly: count) else {
            appendNull(element)
            return fail("is an array that the driver cannot send")
        }
        let start = begin(type, length: 0)
        // Header (array_recv): dimensions, has-null flag, element type; then length and lower bound per dimension.
        // An empty array has no dimension.
        bytes.appendBigEndian(Int32(count == 0 ? 0 : 1))
        let flagOffset = bytes.count
        bytes.appendBigEndian(Int32(0))
        bytes.appendBigEndian(element.rawValue)
        if count > 0 {
            bytes.appendBigEndian(length)
            bytes.appendBigEndian(Int32(1))
        }
        // The buffer moves into the builder and back: a copy of a reference, never of the bytes.
        var builder = PostgresArrayBuilder(element: element)
        swap(&builder.bytes, &bytes)
        builder.reserve(count)
        fill(&builder)
        swap(&builder.bytes, &bytes)
        if builder.hasNull { bytes[flagOffset + 3] = 1 }
        if builder.count != count { fail("is an array with another number of elements than announced") }
        if builder.hasWrongType { fail("is an array with an element of another type") }
        finish(start, isText: !builder.hasNUL)
    }

    public mutating func append(_ values: [Bool]) {
        appendArray(of: .bool, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [Int16]) {
        appendArray(of: .int2, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [Int32]) {
        appendArray(of: .int4, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [Int64]) {
        appendArray(of: .int8, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [String]) {
        appendArray(of: .text, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [PostgresUUID]) {
        appendArray(of: .uuid, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [PostgresTimestamp]) {
        appendArray(of: .timestamptz, count: values.count) { array in for value in values { array.append(value) } }
    }

    public mutating func append(_ values: [[UInt8]]) {
        appendArray(of: .bytea, count: values.count) { array in for value in values { array.append(value) } }
    }

    // MARK: Parts

    private mutating func append(_ value: (some FixedWidthInteger)?, as type: PostgresType) {
        guard let value else { return appendNull(type) }
        begin(type, length: value.bitWidth / 8)
        bytes.appendBigEndian(value)
    }

    @discardableResult
    private mutating func begin(_ type: PostgresType, length: Int) -> Int {
        values.append(Value(type: type, offset: bytes.count, length: 0))
        setLength(length)
        return bytes.count
    }

    private mutating func finish(_ start: Int, isText: Bool) {
        setLength(bytes.count - start)
        if !isText { fail("holds a NUL byte, which text cannot") }
    }

    private mutating func setLength(_ length: Int) {
        // The protocol has 32-bit lengths, and the server refuses more than 1 GB.
        guard let exact = Int32(exactly: length) else { return fail("is too long") }
        values[values.count - 1].length = exact
    }

    private mutating func fail(_ what: String) {
        guard failure == nil else { return }
        failure = PostgresError(.encoding, "bound value \(values.count) \(what)")
    }
}

/// Writes the elements of one array; see `PostgresBinds.appendArray`.
public struct PostgresArrayBuilder: ~Copyable {
    fileprivate var bytes: [UInt8] = []
    fileprivate var count = 0
    fileprivate var hasNull = false
    fileprivate var hasNUL = false
    fileprivate var hasWrongType = false
    private let element: PostgresType

    fileprivate init(element: PostgresType) {
        self.element = element
    }

    fileprivate mutating func reserve(_ count: Int) {
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
    fileprivate mutating func appendPrefixed(_ value: some FixedWidthInteger, length: Int) {
        let both = UInt128(UInt32(truncatingIfNeeded: length)) << UInt128(value.bitWidth)
        let bits = UInt128(truncatingIfNeeded: value) & (UInt128(1) << UInt128(value.bitWidth) - 1)
        Swift.withUnsafeBytes(of: (both | bits).bigEndian) { wide in
            append(contentsOf: UnsafeRawBufferPointer(rebasing: wide[(12 - value.bitWidth / 8)...]))
        }
    }

    fileprivate mutating func appendUUID(_ value: PostgresUUID) {
        appendBigEndian(value.high)
        appendBigEndian(value.low)
    }

    /// Whether the text is free of NUL bytes.
    fileprivate mutating func appendUTF8(_ text: String) -> Bool {
        let isClean = text.utf8.withContiguousStorageIfAvailable { utf8 in
            append(contentsOf: utf8)
            return !Self.hasNUL(UnsafeRawBufferPointer(utf8))
        }
        return isClean ?? appendText(Array(text.utf8))
    }

    /// Whether the text is free of NUL bytes.
    fileprivate mutating func appendText(_ utf8: [UInt8]) -> Bool {
        append(contentsOf: utf8)
        return !utf8.withUnsafeBytes(Self.hasNUL)
    }

    private static func hasNUL(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress else { return false }
        return memchr(base, 0, bytes.count) != nil
    }
}
