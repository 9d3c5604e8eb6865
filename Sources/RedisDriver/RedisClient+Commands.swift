/// Typed forms of the commands that this product uses. Each throws `.unexpectedReply` if the reply has another type.
extension RedisClient {
    /// PING.
    public func ping() async throws(RedisError) {
        guard try await send(RedisCommand("PING")) == .simpleString("PONG") else {
            throw .unexpectedReply(expected: "PONG")
        }
    }

    /// GET: the bytes under the key; `nil` if there are none, which an outage never is.
    public func get(_ key: String) async throws(RedisError) -> [UInt8]? {
        try Self.optionalBytes(try await send(RedisCommand("GET", key)))
    }

    /// SET, with PX and NX where asked for.
    /// - Parameter expiryMilliseconds: after which the key vanishes; at least 1.
    /// - Returns: `false` if `onlyIfAbsent` kept it from being set.
    @discardableResult
    public func set(
        _ key: String, _ value: [UInt8], expiryMilliseconds: Int64? = nil, onlyIfAbsent: Bool = false
    ) async throws(RedisError) -> Bool {
        var command = RedisCommand("SET", key).appending(value)
        if let expiryMilliseconds {
            command.append("PX")
            command.append(expiryMilliseconds)
        }
        if onlyIfAbsent { command.append("NX") }
        switch try await send(command) {
        case .simpleString("OK"): return true
        case .null where onlyIfAbsent: return false
        default: throw .unexpectedReply(expected: "OK")
        }
    }

    /// DEL: how many of the keys existed.
    @discardableResult
    public func del(_ keys: String...) async throws(RedisError) -> Int64 {
        try await del(keys)
    }

    /// DEL: how many of the keys existed. No keys, no command.
    @discardableResult
    public func del(_ keys: [String]) async throws(RedisError) -> Int64 {
        guard !keys.isEmpty else { return 0 }
        return try Self.integer(try await send(RedisCommand(arguments: ["DEL"] + keys)))
    }

    /// INCRBY: the value after it.
    @discardableResult
    public func incr(_ key: String, by amount: Int64 = 1) async throws(RedisError) -> Int64 {
        try Self.integer(try await send(RedisCommand("INCRBY", key).appending(amount)))
    }

    /// PEXPIRE: `false` if the key does not exist.
    @discardableResult
    public func expire(_ key: String, milliseconds: Int64) async throws(RedisError) -> Bool {
        try Self.integer(try await send(RedisCommand("PEXPIRE", key).appending(milliseconds))) == 1
    }

    /// HGET: the bytes of the field; `nil` if there is no such key or field.
    public func hget(_ key: String, _ field: String) async throws(RedisError) -> [UInt8]? {
        try Self.optionalBytes(try await send(RedisCommand("HGET", key, field)))
    }

    /// HSET of one field: whether it is new.
    @discardableResult
    public func hset(_ key: String, _ field: String, _ value: [UInt8]) async throws(RedisError) -> Bool {
        try Self.integer(try await send(RedisCommand("HSET", key, field).appending(value))) == 1
    }

    /// HDEL: how many of the fields existed. No fields, no command.
    @discardableResult
    public func hdel(_ key: String, _ fields: [String]) async throws(RedisError) -> Int64 {
        guard !fields.isEmpty else { return 0 }
        return try Self.integer(try await send(RedisCommand(arguments: ["HDEL", key] + fields)))
    }

    /// HGETALL: the fields in no particular order; empty if there is no such key.
    ///
    /// Names come as bytes, because anybody may have written them: one that is not text must not hide the others.
    public func hgetall(_ key: String) async throws(RedisError) -> [(field: [UInt8], value: [UInt8])] {
        guard let elements = try await send(RedisCommand("HGETALL", key)).array, elements.count.isMultiple(of: 2) else {
            throw .unexpectedReply(expected: "pairs of fields and values")
        }
        var pairs: [(field: [UInt8], value: [UInt8])] = []
        pairs.reserveCapacity(elements.count / 2)
        for index in stride(from: 0, to: elements.count, by: 2) {
            guard let field = elements[index].bytes, let value = elements[index + 1].bytes else {
                throw .unexpectedReply(expected: "pairs of fields and values")
            }
            pairs.append((field, value))
        }
        return pairs
    }

    /// PUBLISH: how many subscribers received it.
    @discardableResult
    public func publish(_ channel: String, _ payload: [UInt8]) async throws(RedisError) -> Int64 {
        try Self.integer(try await send(RedisCommand("PUBLISH", channel).appending(payload)))
    }

    private static func integer(_ value: RedisValue) throws(RedisError) -> Int64 {
        guard let integer = value.integer else { throw .unexpectedReply(expected: "an integer") }
        return integer
    }

    private static func optionalBytes(_ value: RedisValue) throws(RedisError) -> [UInt8]? {
        if value.isNull { return nil }
        guard case .bulk(let bytes) = value else { throw .unexpectedReply(expected: "a bulk string") }
        return bytes
    }
}
