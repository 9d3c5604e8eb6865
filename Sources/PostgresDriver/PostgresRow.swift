internal import CLibPQ

/// One row of a binary result, lent to `PostgresStatement.row(from:)` and gone afterwards.
///
/// Each reading exists with an index (`row.int64(0)`) and without (`row.int64()`, the next column).
public struct PostgresRow: ~Copyable {
    private let result: OpaquePointer
    private let index: Int32
    private let columns: [PostgresType]
    private let statement: any PostgresStatement.Type
    private var next = 0

    init(result: OpaquePointer, index: Int32, columns: [PostgresType], statement: any PostgresStatement.Type) {
        self.result = result
        self.index = index
        self.columns = columns
        self.statement = statement
    }

    /// Whether the column is NULL; true for a column that does not exist.
    public func isNull(_ column: Int) -> Bool {
        !columns.indices.contains(column) || PQgetisnull(result, index, Int32(column)) == 1
    }

    // MARK: Any type

    /// The value of a column as a Swift type, nil for NULL.
    public func optional<Value: PostgresDecodable>(
        _ column: Int, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value? {
        guard columns.indices.contains(column) else { throw failure(column, "does not exist") }
        guard Value.postgresTypes.contains(columns[column]) else {
            throw failure(column, "is declared with another type")
        }
        guard PQgetisnull(result, index, Int32(column)) == 0 else { return nil }
        let bytes = UnsafeRawBufferPointer(
            start: PQgetvalue(result, index, Int32(column)), count: Int(PQgetlength(result, index, Int32(column))))
        guard let value = Value(postgresBytes: bytes, type: columns[column]) else {
            throw failure(column, "cannot be read")
        }
        return value
    }

    /// The value of a column as a Swift type.
    public func value<Value: PostgresDecodable>(
        _ column: Int, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        guard let value = try optional(column, as: type) else { throw failure(column, "is NULL") }
        return value
    }

    /// An array column without NULL elements. An empty array, of whatever dimensions, is empty.
    public func array<Element: PostgresDecodable>(
        _ column: Int, of type: Element.Type = Element.self
    ) throws(PostgresError) -> [Element] {
        guard let elements = try optionalArray(column, of: type) else { throw failure(column, "is NULL") }
        return elements
    }

    /// An array column without NULL elements, nil for NULL.
    public func optionalArray<Element: PostgresDecodable>(
        _ column: Int, of type: Element.Type = Element.self
    ) throws(PostgresError) -> [Element]? {
        guard let elements = try optionalArrayWithNulls(column, of: type) else { return nil }
        var whole: [Element] = []
        whole.reserveCapacity(elements.count)
        for element in elements {
            guard let element else { throw failure(column, "has a NULL element") }
            whole.append(element)
        }
        return whole
    }

    /// An array column whose elements may be NULL, nil for NULL.
    public func optionalArrayWithNulls<Element: PostgresDecodable>(
        _ column: Int, of type: Element.Type = Element.self
    ) throws(PostgresError) -> [Element?]? {
        guard columns.indices.contains(column) else { throw failure(column, "does not exist") }
        guard let element = Element.postgresTypes.first(where: { $0.array == columns[column] }) else {
            throw failure(column, "is declared with another type")
        }
        guard PQgetisnull(result, index, Int32(column)) == 0 else { return nil }
        let bytes = UnsafeRawBufferPointer(
            start: PQgetvalue(result, index, Int32(column)), count: Int(PQgetlength(result, index, Int32(column))))
        guard let elements = PostgresArrayReader.elements(of: bytes, element: element, as: Element.self) else {
            throw failure(column, "cannot be read as an array")
        }
        return elements
    }

    /// An error of the statement's own reading, for example an unknown word in a text column. Never put the value into
    /// it.
    public func failure(_ column: Int, _ what: String) -> PostgresError {
        PostgresError(.decoding, "column \(column) \(what)", statementName: statement.name)
    }

    fileprivate mutating func advance() -> Int {
        defer { next += 1 }
        return next
    }
}

extension PostgresRow {
    public func bool(_ column: Int) throws(PostgresError) -> Bool { try value(column) }
    public func int16(_ column: Int) throws(PostgresError) -> Int16 { try value(column) }
    public func int32(_ column: Int) throws(PostgresError) -> Int32 { try value(column) }
    public func int64(_ column: Int) throws(PostgresError) -> Int64 { try value(column) }
    /// A transaction identifier.
    public func xid8(_ column: Int) throws(PostgresError) -> UInt64 { try value(column) }
    /// A measurement; never money, tokens or time.
    public func double(_ column: Int) throws(PostgresError) -> Double { try value(column) }
    /// `text`, `varchar`, and the text of `json` and `jsonb`.
    public func text(_ column: Int) throws(PostgresError) -> String { try value(column) }
    /// `bytea`, and the UTF-8 of text and JSON.
    public func bytes(_ column: Int) throws(PostgresError) -> [UInt8] { try value(column) }
    public func uuid(_ column: Int) throws(PostgresError) -> PostgresUUID { try value(column) }
    public func timestamp(_ column: Int) throws(PostgresError) -> PostgresTimestamp { try value(column) }
    public func date(_ column: Int) throws(PostgresError) -> PostgresDate { try value(column) }
    /// The text of a `json` or `jsonb` column.
    public func jsonText(_ column: Int) throws(PostgresError) -> String { try value(column) }
    /// The digits of a `numeric` column, exact.
    public func numericText(_ column: Int) throws(PostgresError) -> String {
        try value(column, as: PostgresDecimalText.self).text
    }

    public func optionalBool(_ column: Int) throws(PostgresError) -> Bool? { try optional(column) }
    public func optionalInt16(_ column: Int) throws(PostgresError) -> Int16? { try optional(column) }
    public func optionalInt32(_ column: Int) throws(PostgresError) -> Int32? { try optional(column) }
    public func optionalInt64(_ column: Int) throws(PostgresError) -> Int64? { try optional(column) }
    public func optionalXID8(_ column: Int) throws(PostgresError) -> UInt64? { try optional(column) }
    public func optionalDouble(_ column: Int) throws(PostgresError) -> Double? { try optional(column) }
    public func optionalText(_ column: Int) throws(PostgresError) -> String? { try optional(column) }
    public func optionalBytes(_ column: Int) throws(PostgresError) -> [UInt8]? { try optional(column) }
    public func optionalUUID(_ column: Int) throws(PostgresError) -> PostgresUUID? { try optional(column) }
    public func optionalTimestamp(_ column: Int) throws(PostgresError) -> PostgresTimestamp? { try optional(column) }
    public func optionalDate(_ column: Int) throws(PostgresError) -> PostgresDate? { try optional(column) }
    public func optionalJSONText(_ column: Int) throws(PostgresError) -> String? { try optional(column) }
    public func optionalNumericText(_ column: Int) throws(PostgresError) -> String? {
        try optional(column, as: PostgresDecimalText.self)?.text
    }
}

extension PostgresRow {
    public mutating func bool() throws(PostgresError) -> Bool { try bool(advance()) }
    public mutating func int16() throws(PostgresError) -> Int16 { try int16(advance()) }
    public mutating func int32() throws(PostgresError) -> Int32 { try int32(advance()) }
    public mutating func int64() throws(PostgresError) -> Int64 { try int64(advance()) }
    public mutating func xid8() throws(PostgresError) -> UInt64 { try xid8(advance()) }
    public mutating func double() throws(PostgresError) -> Double { try double(advance()) }
    public mutating func text() throws(PostgresError) -> String { try text(advance()) }
    public mutating func bytes() throws(PostgresError) -> [UInt8] { try bytes(advance()) }
    public mutating func uuid() throws(PostgresError) -> PostgresUUID { try uuid(advance()) }
    public mutating func timestamp() throws(PostgresError) -> PostgresTimestamp { try timestamp(advance()) }
    public mutating func date() throws(PostgresError) -> PostgresDate { try date(advance()) }
    public mutating func jsonText() throws(PostgresError) -> String { try jsonText(advance()) }
    public mutating func numericText() throws(PostgresError) -> String { try numericText(advance()) }
    public mutating func array<Element: PostgresDecodable>(
        of type: Element.Type = Element.self
    ) throws(PostgresError) -> [Element] { try array(advance(), of: type) }

    public mutating func optionalBool() throws(PostgresError) -> Bool? { try optional(advance()) }
    public mutating func optionalInt16() throws(PostgresError) -> Int16? { try optional(advance()) }
    public mutating func optionalInt32() throws(PostgresError) -> Int32? { try optional(advance()) }
    public mutating func optionalInt64() throws(PostgresError) -> Int64? { try optional(advance()) }
    public mutating func optionalXID8() throws(PostgresError) -> UInt64? { try optional(advance()) }
    public mutating func optionalDouble() throws(PostgresError) -> Double? { try optional(advance()) }
    public mutating func optionalText() throws(PostgresError) -> String? { try optional(advance()) }
    public mutating func optionalBytes() throws(PostgresError) -> [UInt8]? { try optional(advance()) }
    public mutating func optionalUUID() throws(PostgresError) -> PostgresUUID? { try optional(advance()) }
    public mutating func optionalTimestamp() throws(PostgresError) -> PostgresTimestamp? { try optional(advance()) }
    public mutating func optionalDate() throws(PostgresError) -> PostgresDate? { try optional(advance()) }
    public mutating func optionalJSONText() throws(PostgresError) -> String? { try optional(advance()) }
    public mutating func optionalNumericText() throws(PostgresError) -> String? { try optionalNumericText(advance()) }
    public mutating func optionalArray<Element: PostgresDecodable>(
        of type: Element.Type = Element.self
    ) throws(PostgresError) -> [Element]? { try optionalArray(advance(), of: type) }
    public mutating func optionalArrayWithNulls<Element: PostgresDecodable>(
        of type: Element.Type = Element.self
    ) throws(PostgresError) -> [Element?]? { try optionalArrayWithNulls(advance(), of: type) }
}
