import Testing

@testable import PostgresDriver

/// Sends every scalar type and reads it back, so that our reading of the binary forms is the server's.
struct EchoScalars: PostgresStatement {
    struct Row: Sendable, Equatable {
        var bool: Bool?
        var int2: Int16?
        var int4: Int32?
        var int8: Int64?
        var float8: Double?
        var text: String?
        var bytea: [UInt8]?
        var uuid: PostgresUUID?
        var timestamp: PostgresTimestamp?
        var date: PostgresDate?
        var xid8: UInt64?
        var numeric: String?
        var json: String?
    }

    static let sql = "SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13"
    static let parameters: [PostgresType] = [
        .bool, .int2, .int4, .int8, .float8, .text, .bytea, .uuid, .timestamptz, .date, .xid8, .numeric, .json,
    ]
    static let columns = parameters
    let row: Row

    func bind(to binds: inout PostgresBinds) {
        binds.append(row.bool)
        binds.append(row.int2)
        binds.append(row.int4)
        binds.append(row.int8)
        binds.append(row.float8)
        binds.append(row.text)
        binds.append(row.bytea)
        binds.append(row.uuid)
        binds.append(row.timestamp)
        binds.append(row.date)
        binds.appendXID8(row.xid8)
        binds.appendNumeric(row.numeric)
        binds.appendJSON(row.json.map { Array($0.utf8) })
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Row {
        Row(
            bool: try row.optionalBool(), int2: try row.optionalInt16(), int4: try row.optionalInt32(),
            int8: try row.optionalInt64(), float8: try row.optionalDouble(), text: try row.optionalText(),
            bytea: try row.optionalBytes(), uuid: try row.optionalUUID(), timestamp: try row.optionalTimestamp(),
            date: try row.optionalDate(), xid8: try row.optionalXID8(), numeric: try row.optionalNumericText(),
            json: try row.optionalJSONText())
    }
}

/// The text that the server makes of our binary values: catches an error that reading and writing would share.
struct ScalarsAsText: PostgresStatement {
    static let sql = """
        SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, encode($8, 'hex')
        """
    static let parameters: [PostgresType] = [.bool, .int2, .int8, .uuid, .timestamptz, .date, .jsonb, .bytea]
    static let columns = [PostgresType](repeating: .text, count: 8)

    func bind(to binds: inout PostgresBinds) {
        binds.append(true)
        binds.append(Int16(-2))
        binds.append(Int64.min)
        binds.append(PostgresUUID(high: 0x0123_4567_89ab_cdef, low: 0xfedc_ba98_7654_3210))
        binds.append(PostgresTimestamp(microsecondsSince1970: 1_700_000_000_123_456))
        binds.append(PostgresDate(daysSince1970: 19_675))
        binds.appendJSONB(#"{"b":1,"a":[true]}"#)
        binds.append([0, 1, 0xff] as [UInt8])
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> [String] {
        var texts: [String] = []
        for index in columns.indices { texts.append(try row.text(index)) }
        return texts
    }
}

struct EchoArrays: PostgresStatement {
    struct Row: Sendable, Equatable {
        var bools: [Bool]
        var int2s: [Int16]
        var int4s: [Int32]
        var int8s: [Int64]
        var texts: [String]
        var uuids: [PostgresUUID]
        var byteas: [[UInt8]]
        var timestamps: [PostgresTimestamp]
    }

    static let sql = "SELECT $1, $2, $3, $4, $5, $6, $7, $8"
    static let parameters: [PostgresType] = [
        .boolArray, .int2Array, .int4Array, .int8Array, .textArray, .uuidArray, .byteaArray, .timestamptzArray,
    ]
    static let columns = parameters
    let row: Row

    func bind(to binds: inout PostgresBinds) {
        binds.append(row.bools)
        binds.append(row.int2s)
        binds.append(row.int4s)
        binds.append(row.int8s)
        binds.append(row.texts)
        binds.append(row.uuids)
        binds.append(row.byteas)
        binds.append(row.timestamps)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Row {
        Row(
            bools: try row.array(), int2s: try row.array(), int4s: try row.array(), int8s: try row.array(),
            texts: try row.array(), uuids: try row.array(), byteas: try row.array(), timestamps: try row.array())
    }
}

struct EchoNullableArrays: PostgresStatement {
    static let sql = "SELECT $1, $2"
    static let parameters: [PostgresType] = [.int8Array, .textArray]
    static let columns = parameters
    let numbers: [Int64?]
    let texts: [String?]

    func bind(to binds: inout PostgresBinds) {
        binds.appendArray(of: .int8, count: numbers.count) { array in
            for number in numbers { array.append(number) }
        }
        binds.appendArray(of: .text, count: texts.count) { array in
            for text in texts { array.append(text) }
        }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> ([Int64?], [String?]) {
        (try row.optionalArrayWithNulls(0) ?? [], try row.optionalArrayWithNulls(1) ?? [])
    }
}

/// A statement with one text parameter, for values that cannot be sent.
struct EchoText: PostgresStatement {
    static let sql = "SELECT $1"
    static let parameters: [PostgresType] = [.text]
    static let columns: [PostgresType] = [.text]
    let text: String

    func bind(to binds: inout PostgresBinds) { binds.append(text) }
    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

@Suite("values on the wire")
struct ValueRoundTripTests {
    static let scalars: [EchoScalars.Row] = [
        EchoScalars.Row(),
        EchoScalars.Row(
            bool: true, int2: .min, int4: .min, int8: .min, float8: -0.1, text: "", bytea: [],
            uuid: PostgresUUID(high: 0, low: 0),
            timestamp: PostgresTimestamp(microsecondsSince1970: -1), date: PostgresDate(daysSince1970: -1), xid8: 0,
            numeric: "0", json: "{}"),
        EchoScalars.Row(
            bool: false, int2: .max, int4: .max, int8: .max, float8: .greatestFiniteMagnitude, text: "Grüße, 世界 🐘",
            bytea: Array(0...255), uuid: PostgresUUID(high: .max, low: .max),
            timestamp: PostgresTimestamp(microsecondsSince1970: 4_102_444_800_000_001),
            date: PostgresDate(daysSince1970: 47_482), xid8: .max, numeric: "-12345678901234567890.00012300",
            json: #"{"a": 1}"#),
        EchoScalars.Row(
            timestamp: PostgresTimestamp(microsecondsSince1970: .max), date: PostgresDate(daysSince1970: .max)),
        EchoScalars.Row(
            timestamp: PostgresTimestamp(microsecondsSince1970: .min), date: PostgresDate(daysSince1970: .min)),
    ]

    @Test("every scalar type comes back as it was sent, NULL and extremes included")
    func scalars() async throws {
        try await withSession { session in
            for row in Self.scalars {
                try #expect(session.execute(EchoScalars(row: row)) == [row])
            }
        }
    }

    @Test("the server reads our binary values as what we mean")
    func scalarsAsText() async throws {
        try await withSession { session in
            let texts = try session.execute(ScalarsAsText())[0]
            #expect(
                texts == [
                    "true", "-2", "-9223372036854775808", "01234567-89ab-cdef-fedc-ba9876543210",
                    "2023-11-14 22:13:20.123456+00", "2023-11-14", #"{"a": [true], "b": 1}"#, "0001ff",
                ])
        }
    }

    @Test("arrays of every element type come back", arguments: [0, 1, 1_000])
    func arrays(count: Int) async throws {
        let row = EchoArrays.Row(
            bools: (0..<count).map { $0 % 3 == 0 }, int2s: (0..<count).map { Int16($0) - 500 },
            int4s: (0..<count).map { Int32($0) * -70_000 }, int8s: (0..<count).map { Int64($0) << 40 },
            texts: (0..<count).map { String(repeating: "é", count: $0 % 7) },
            uuids: (0..<count).map { PostgresUUID(high: UInt64($0), low: ~UInt64($0)) },
            byteas: (0..<count).map { [UInt8](repeating: UInt8($0 % 256), count: $0 % 5) },
            timestamps: (0..<count).map { PostgresTimestamp(microsecondsSince1970: Int64($0) * 1_000_003) })
        try await withSession { session in
            try #expect(session.execute(EchoArrays(row: row)) == [row])
        }
    }

    @Test("NULL elements of arrays come back as NULL")
    func nullElements() async throws {
        try await withSession { session in
            let rows = try session.execute(EchoNullableArrays(numbers: [1, nil, 3], texts: [nil, "", "x"]))
            #expect(rows[0].0 == [1, nil, 3])
            #expect(rows[0].1 == [nil, "", "x"])
        }
    }

    @Test(
        "decimals keep every digit",
        arguments: ["0", "0.00", "1", "10000", "-1", "0.0001", "123.4500", "99999999999999999999"])
    func numeric(text: String) async throws {
        try await withSession { session in
            try #expect(session.execute(EchoScalars(row: .init(numeric: text))).first?.numeric == text)
        }
    }

    @Test("a decimal whose groups have more than four digits is broken, and is refused instead of trapping")
    func brokenNumeric() {
        // One group, of 10000.
        let bytes: [UInt8] = [0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10]
        #expect(bytes.withUnsafeBytes { PostgresNumeric.text(of: $0) } == nil)
    }

    @Test("what is not a decimal is refused before it is sent", arguments: ["", "-", "1.", ".5", "1e3", "NaN", "1 "])
    func notNumeric(text: String) async throws {
        try await withSession { session in
            let error = #expect(throws: PostgresError.self) {
                try session.execute(EchoScalars(row: .init(numeric: text)))
            }
            #expect(error?.code == .encoding)
        }
    }

    @Test("a text with a NUL byte is refused before it is sent, naming the statement and not the text")
    func nulByte() async throws {
        try await withSession { session in
            let error = #expect(throws: PostgresError.self) { try session.execute(EchoText(text: "secret\0")) }
            #expect(error?.code == .encoding)
            #expect(error?.statementName == "EchoText")
            #expect("\(String(describing: error))".contains("secret") == false)
            try #expect(session.execute(EchoText(text: "fine")) == ["fine"])
        }
    }

    @Test("an array with another count than announced is refused")
    func wrongCount() async throws {
        struct Short: PostgresStatement {
            static let sql = "SELECT $1"
            static let parameters: [PostgresType] = [.int8Array]
            func bind(to binds: inout PostgresBinds) {
                binds.appendArray(of: .int8, count: 2) { $0.append(Int64(1)) }
            }
        }
        try await withSession { session in
            let error = #expect(throws: PostgresError.self) { try session.execute(Short()) }
            #expect(error?.code == .encoding)
        }
    }

    @Test("a value bound with another type than declared is refused")
    func wrongType() async throws {
        struct Wrong: PostgresStatement {
            static let sql = "SELECT $1"
            static let parameters: [PostgresType] = [.int8]
            func bind(to binds: inout PostgresBinds) { binds.append(Int32(1)) }
        }
        struct Missing: PostgresStatement {
            static let sql = "SELECT $1"
            static let parameters: [PostgresType] = [.int8]
        }
        try await withSession { session in
            #expect(#expect(throws: PostgresError.self) { try session.execute(Wrong()) }?.code == .encoding)
            #expect(#expect(throws: PostgresError.self) { try session.execute(Missing()) }?.code == .encoding)
        }
    }

    @Test("a decoding error names statement and column and not the value")
    func decodingError() async throws {
        struct Nulls: PostgresStatement {
            static let sql = "SELECT 'secret'::text, NULL::int8"
            static let columns: [PostgresType] = [.text, .int8]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64(1) }
        }
        struct OtherColumns: PostgresStatement {
            static let sql = "SELECT 'secret'::text"
            static let columns: [PostgresType] = [.int8]
            static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64(0) }
        }
        try await withSession { session in
            let null = #expect(throws: PostgresError.self) { try session.execute(Nulls()) }
            #expect(null?.code == .decoding)
            #expect(null?.message == "column 1 is NULL")
            #expect(null?.statementName == "Nulls")
            let other = #expect(throws: PostgresError.self) { try session.execute(OtherColumns()) }
            #expect(other?.code == .decoding)
            #expect(other?.message.contains("column 0") == true)
            try #expect(session.execute(SelectOne()) == [1])
        }
    }

    @Test(
        "UUID text is read and written",
        arguments: ["01234567-89ab-cdef-fedc-ba9876543210", "00000000-0000-0000-0000-000000000000"])
    func uuidText(text: String) {
        #expect(PostgresUUID(text)?.description == text)
        #expect(PostgresUUID(text.uppercased())?.description == text)
        #expect(PostgresUUID(text.dropLast()) == nil)
        #expect(PostgresUUID(text + "0") == nil)
        #expect(PostgresUUID("g" + text.dropFirst()) == nil)
    }
}
