import CHiredis
internal import NIOCore

/// A command: its name and arguments as bytes.
///
/// All arguments lie in one array with their lengths beside it, so that a command of many arguments costs two
/// allocations and not one for each. It has no description, because arguments may be secret.
public struct RedisCommand: Hashable, Sendable {
    /// Arguments of one command, its name included.
    public static let argumentCountLimit = 1_048_576
    /// Bytes of all arguments together. Far below what the C formatter can count in its `int`.
    public static let byteLimit = 64 * 1_048_576

    private var bytes: [UInt8]
    private var lengths: [Int]

    public init(_ name: String, _ arguments: String...) {
        bytes = []
        lengths = []
        append(name)
        for argument in arguments { append(argument) }
    }

    /// A command from all its parts, the name first.
    public init(arguments: some Sequence<[UInt8]>) {
        bytes = []
        lengths = []
        for argument in arguments { append(argument) }
    }

    /// A command from all its parts, the name first.
    public init(arguments: some Sequence<String>) {
        bytes = []
        lengths = []
        for argument in arguments { append(argument) }
    }

    public mutating func append(_ argument: String) {
        let start = bytes.count
        bytes.append(contentsOf: argument.utf8)
        lengths.append(bytes.count - start)
    }

    public mutating func append(_ argument: some Collection<UInt8>) {
        let start = bytes.count
        bytes.append(contentsOf: argument)
        lengths.append(bytes.count - start)
    }

    /// Appends the decimal text of a number.
    public mutating func append(_ argument: some BinaryInteger) {
        append(String(argument))
    }

    public func appending(_ argument: some Collection<UInt8>) -> RedisCommand {
        var command = self
        command.append(argument)
        return command
    }

    public func appending(_ argument: some BinaryInteger) -> RedisCommand {
        var command = self
        command.append(argument)
        return command
    }

    /// The command on the wire: an array of bulk strings.
    /// - Throws: `.invalidCommand` if it is empty or exceeds a limit.
    func encoded() throws(RedisError) -> ByteBuffer {
        guard !lengths.isEmpty else { throw .invalidCommand("it has no name") }
        guard lengths.count <= Self.argumentCountLimit else { throw .invalidCommand("it has too many arguments") }
        guard bytes.count <= Self.byteLimit else { throw .invalidCommand("it is too large") }
        var target: UnsafeMutablePointer<CChar>?
        let count = bytes.withUnsafeBytes { raw in
            withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: lengths.count) { pointers in
                withUnsafeTemporaryAllocation(of: Int.self, capacity: lengths.count) { sizes in
                    // hiredis copies from the pointer even for a length of zero, so it must not be null.
                    var next = raw.baseAddress ?? UnsafeRawPointer(pointers.baseAddress)
                    for (index, length) in lengths.enumerated() {
                        pointers[index] = next?.assumingMemoryBound(to: CChar.self)
                        sizes[index] = length
                        next = next?.advanced(by: length)
                    }
                    return redisFormatCommandArgv(
                        &target, Int32(lengths.count), pointers.baseAddress, sizes.baseAddress)
                }
            }
        }
        guard count > 0, let target else { throw .invalidCommand("it could not be formatted") }
        defer { redisFreeCommand(target) }
        return ByteBuffer(bytes: UnsafeRawBufferPointer(start: target, count: Int(count)))
    }
}
