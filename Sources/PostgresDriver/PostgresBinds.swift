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
