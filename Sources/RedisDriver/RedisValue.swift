/// One reply in RESP2.
///
/// Source: Redis protocol specification, version 2. RESP3 is not asked for, because the codec cannot read it.
public enum RedisValue: Hashable, Sendable {
    /// A null bulk string or a null array: "there is nothing there", as opposed to "redis is away", which is an error.
    case null
    /// A status line such as `OK`.
    case simpleString(String)
    /// An error inside an array, as in the reply of a script. An error that is the whole reply is thrown instead.
    case error(RedisServerError)
    case integer(Int64)
    /// Any bytes, also empty.
    case bulk([UInt8])
    case array([RedisValue])

    /// The bytes of a bulk or simple string; `nil` for anything else.
    public var bytes: [UInt8]? {
        switch self {
        case .bulk(let bytes): bytes
        case .simpleString(let text): Array(text.utf8)
        case .null, .error, .integer, .array: nil
        }
    }

    /// The text of a bulk or simple string; `nil` for anything else and for bytes that are not UTF-8.
    public var string: String? {
        switch self {
        case .bulk(let bytes): String(validating: bytes, as: UTF8.self)
        case .simpleString(let text): text
        case .null, .error, .integer, .array: nil
        }
    }

    /// The number of an integer reply; `nil` for anything else.
    public var integer: Int64? {
        if case .integer(let number) = self { number } else { nil }
    }

    /// The elements of an array; `nil` for anything else.
    public var array: [RedisValue]? {
        if case .array(let elements) = self { elements } else { nil }
    }

    public var isNull: Bool { self == .null }
}
