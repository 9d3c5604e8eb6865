/// The types that this driver sends and reads, by their object identifier.
///
/// Source of the numbers: `pg_type.dat` of PostgreSQL; they are part of the wire protocol and never change.
public enum PostgresType: UInt32, Sendable, Hashable, CaseIterable {
    case bool = 16
    case bytea = 17
    case int8 = 20
    case int2 = 21
    case int4 = 23
    case text = 25
    case json = 114
    /// For measurements such as percentiles. Never for money, tokens or time.
    case float8 = 701
    case varchar = 1043
    case date = 1082
    case timestamptz = 1184
    case numeric = 1700
    /// What a function without a result returns, for example `pg_notify`.
    case void = 2278
    case uuid = 2950
    case jsonb = 3802
    /// A 64-bit transaction identifier.
    case xid8 = 5069
    case boolArray = 1000
    case byteaArray = 1001
    case int2Array = 1005
    case int4Array = 1007
    case textArray = 1009
    case int8Array = 1016
    case dateArray = 1182
    case timestamptzArray = 1185
    case uuidArray = 2951
    case jsonbArray = 3807

    /// The array type with elements of this type, if this driver knows it.
    public var array: PostgresType? {
        switch self {
        case .bool: .boolArray
        case .bytea: .byteaArray
        case .int2: .int2Array
        case .int4: .int4Array
        case .int8: .int8Array
        case .text: .textArray
        case .date: .dateArray
        case .timestamptz: .timestamptzArray
        case .uuid: .uuidArray
        case .jsonb: .jsonbArray
        default: nil
        }
    }

    /// Width of the binary form in bytes, nil where it varies.
    var fixedWidth: Int? {
        switch self {
        case .bool: 1
        case .int2: 2
        case .int4, .date: 4
        case .int8, .timestamptz, .xid8, .float8: 8
        case .uuid: 16
        default: nil
        }
    }

    /// Whether both have the same bytes on the wire, so that one may be bound or read as the other.
    func isInterchangeable(with other: PostgresType) -> Bool {
        self == other || (isText && other.isText)
    }

    private var isText: Bool { self == .text || self == .varchar }
}

/// A UUID as two numbers: comparing, hashing and sending it never makes a string.
public struct PostgresUUID: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The first eight bytes, big endian.
    public var high: UInt64
    /// The last eight bytes, big endian.
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Reads the form with 32 hexadecimal digits; hyphens anywhere are skipped, as the server does.
    public init?(_ text: some StringProtocol) {
        var (high, low, digits) = (UInt64(0), UInt64(0), 0)
        for byte in text.utf8 where byte != UInt8(ascii: "-") {
            guard digits < 32, let value = Character(UnicodeScalar(byte)).hexDigitValue else { return nil }
            if digits < 16 { high = high << 4 | UInt64(value) } else { low = low << 4 | UInt64(value) }
            digits += 1
        }
        guard digits == 32 else { return nil }
        self.init(high: high, low: low)
    }

    public static func < (left: Self, right: Self) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    public var description: String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(36)
        for position in 0..<32 {
            if position == 8 || position == 12 || position == 16 || position == 20 { bytes.append(UInt8(ascii: "-")) }
            let half = position < 16 ? high : low
            let digit = UInt8(truncatingIfNeeded: half >> UInt64(60 - 4 * (position % 16))) & 0xf
            bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// An instant, in microseconds since 1970-01-01T00:00:00Z.
///
/// The server counts from 2000-01-01 (`timestamp.h`, POSTGRES_EPOCH_JDATE); the shift is done on the wire only. The
/// server's `infinity` and `-infinity` read as `Int64.max` and `Int64.min`, and those two are sent as infinity.
public struct PostgresTimestamp: Sendable, Hashable, Comparable {
    public var microsecondsSince1970: Int64

    public init(microsecondsSince1970: Int64) {
        self.microsecondsSince1970 = microsecondsSince1970
    }

    /// 10,957 days.
    static let wireEpoch: Int64 = 946_684_800_000_000

    /// Saturates towards the infinities instead of trapping on instants that the server cannot hold.
    var wire: Int64 {
        if microsecondsSince1970 == .max { return .max }
        let (shifted, overflow) = microsecondsSince1970.subtractingReportingOverflow(Self.wireEpoch)
        return overflow ? .min : shifted
    }

    init(wire: Int64) {
        guard wire != .min else {
            microsecondsSince1970 = .min
            return
        }
        let (shifted, overflow) = wire.addingReportingOverflow(Self.wireEpoch)
        microsecondsSince1970 = overflow ? .max : shifted
    }

    public static func < (left: Self, right: Self) -> Bool {
        left.microsecondsSince1970 < right.microsecondsSince1970
    }
}

/// A day of the Gregorian calendar, in days since 1970-01-01. The infinities are the extremes of `Int32`, as for
/// timestamps.
public struct PostgresDate: Sendable, Hashable, Comparable {
    public var daysSince1970: Int32

    public init(daysSince1970: Int32) {
        self.daysSince1970 = daysSince1970
    }

    static let wireEpoch: Int32 = 10_957

    var wire: Int32 {
        if daysSince1970 == .max { return .max }
        let (shifted, overflow) = daysSince1970.subtractingReportingOverflow(Self.wireEpoch)
        return overflow ? .min : shifted
    }

    init(wire: Int32) {
        guard wire != .min else {
            daysSince1970 = .min
            return
        }
        let (shifted, overflow) = wire.addingReportingOverflow(Self.wireEpoch)
        daysSince1970 = overflow ? .max : shifted
    }

    public static func < (left: Self, right: Self) -> Bool {
        left.daysSince1970 < right.daysSince1970
    }
}
