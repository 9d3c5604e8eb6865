import CHiredis

/// Parses replies with hiredis, which does no I/O here.
///
/// One belongs to one connection and stays on its event loop. After an error the parser's position in the stream is
/// unknown, so the connection has to be dropped and the reader with it.
struct ReplyReader: ~Copyable {
    /// How much one reply may cost. hiredis 0.14 has no limit of its own: it would reserve memory for whatever length
    /// an array header claims, and collect input for a bulk string of any announced length for ever.
    struct Limits {
        /// Elements of all arrays of one reply together.
        var elementCount = 1_048_576
        /// Bytes of one reply on the wire.
        var byteCount = 64 * 1_048_576
    }

    private let reader: UnsafeMutablePointer<redisReader>
    /// Elements that the current reply may still have; `refuseLargeArray` reads it through the reader's `privdata`.
    private let elementBudget: UnsafeMutablePointer<Int>
    private let functions: UnsafeMutablePointer<redisReplyObjectFunctions>
    private let limits: Limits
    private var incompleteByteCount = 0
    private var isPoisoned = false

    /// - Throws: `.unavailable` if there is no memory.
    init(limits: Limits = Limits()) throws(RedisError) {
        guard let reader = redisReaderCreate() else { throw .unavailable("there is no memory for a connection") }
        self.reader = reader
        self.limits = limits
        elementBudget = .allocate(capacity: 1)
        elementBudget.initialize(to: limits.elementCount)
        functions = .allocate(capacity: 1)
        functions.initialize(to: reader.pointee.fn.pointee)
        functions.pointee.createArray = ReplyReader.createBoundedArray
        reader.pointee.fn = functions
        reader.pointee.privdata = UnsafeMutableRawPointer(elementBudget)
    }

    deinit {
        redisReaderFree(reader)
        elementBudget.deallocate()
        functions.deallocate()
    }

    /// Adds bytes from the peer.
    mutating func feed(_ bytes: UnsafeRawBufferPointer) throws(RedisError) {
        guard !isPoisoned else { throw .protocolViolation("the parser already failed") }
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        incompleteByteCount += bytes.count
        guard redisReaderFeed(reader, base.assumingMemoryBound(to: CChar.self), bytes.count) == REDIS_OK else {
            throw poison("there is no memory for the reply")
        }
    }

    /// The next complete reply.
    /// - Returns: `nil` if more bytes are needed.
    mutating func next() throws(RedisError) -> RedisValue? {
        guard !isPoisoned else { throw .protocolViolation("the parser already failed") }
        var reply: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &reply) == REDIS_OK else {
            throw poison(elementBudget.pointee < 0 ? "a reply has too many elements" : parserMessage)
        }
        guard let reply else {
            guard incompleteByteCount <= limits.byteCount else { throw poison("a reply is too large") }
            return nil
        }
        defer { freeReplyObject(reply) }
        elementBudget.pointee = limits.elementCount
        incompleteByteCount = reader.pointee.len - reader.pointee.pos
        return Self.value(of: reply.assumingMemoryBound(to: redisReply.self).pointee)
    }

    private mutating func poison(_ reason: String) -> RedisError {
        isPoisoned = true
        return .protocolViolation(reason)
    }

    /// hiredis's own words. They quote at most one byte of the input.
    private var parserMessage: String {
        withUnsafeBytes(of: reader.pointee.errstr) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Recursion ends at hiredis's nesting limit of nine.
    private static func value(of reply: redisReply) -> RedisValue {
        switch reply.type {
        case REDIS_REPLY_STRING: .bulk(Array(bytes(of: reply)))
        case REDIS_REPLY_STATUS: .simpleString(String(decoding: bytes(of: reply), as: UTF8.self))
        case REDIS_REPLY_ERROR: .error(RedisServerError(line: String(decoding: bytes(of: reply), as: UTF8.self)))
        case REDIS_REPLY_INTEGER: .integer(Int64(reply.integer))
        case REDIS_REPLY_ARRAY:
            .array(
                UnsafeBufferPointer(start: reply.element, count: reply.elements).map { element in
                    element.map { value(of: $0.pointee) } ?? .null
                })
        default: .null
        }
    }

    private static func bytes(of reply: redisReply) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: reply.str, count: reply.len)
    }

    private typealias CreateArray =
        @convention(c) (UnsafePointer<redisReadTask>?, Int32) -> UnsafeMutableRawPointer?

    /// hiredis's own function for arrays, which `createBoundedArray` goes on to call.
    private static let createPlainArray: CreateArray? = {
        guard let reader = redisReaderCreate() else { return nil }
        defer { redisReaderFree(reader) }
        return reader.pointee.fn.pointee.createArray
    }()

    /// Refuses, before any memory is reserved, an array that exceeds what is left of the reply's budget.
    private static let createBoundedArray: CreateArray = { task, count in
        guard let budget = task?.pointee.privdata?.assumingMemoryBound(to: Int.self) else { return nil }
        budget.pointee -= Int(max(count, 0))
        guard budget.pointee >= 0, let createPlainArray else { return nil }
        return createPlainArray(task, count)
    }
}
