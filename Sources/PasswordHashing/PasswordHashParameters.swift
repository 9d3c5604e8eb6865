/// What one hash costs.
///
/// Source of the default: OWASP Password Storage Cheat Sheet, Argon2id with 19 MiB, two passes and one lane.
public struct PasswordHashParameters: Hashable, Sendable {
    /// Memory of one hash, in KiB.
    public var memoryKibibytes: UInt32
    /// Passes over that memory.
    public var iterations: UInt32
    /// Lanes. libargon2 starts a thread for each if there is more than one.
    public var parallelism: UInt32

    public init(memoryKibibytes: UInt32 = 19_456, iterations: UInt32 = 2, parallelism: UInt32 = 1) {
        self.memoryKibibytes = memoryKibibytes
        self.iterations = iterations
        self.parallelism = parallelism
    }

    /// Costs beyond these are refused, also in a stored hash: whoever can write one could otherwise make each log-in
    /// take gigabytes.
    static let memoryKibibytesLimit: UInt32 = 262_144
    static let iterationsLimit: UInt32 = 16
    static let parallelismLimit: UInt32 = 8

    /// Source of the lower bounds: RFC 9106, section 3.1.
    func validate() throws(PasswordHashingError) {
        guard (1...Self.parallelismLimit).contains(parallelism) else {
            throw .invalidParameters("the lanes are not between 1 and \(Self.parallelismLimit)")
        }
        guard (1...Self.iterationsLimit).contains(iterations) else {
            throw .invalidParameters("the passes are not between 1 and \(Self.iterationsLimit)")
        }
        guard (8 * parallelism...Self.memoryKibibytesLimit).contains(memoryKibibytes) else {
            throw .invalidParameters("the memory is below 8 KiB per lane or above \(Self.memoryKibibytesLimit) KiB")
        }
    }
}

/// A hash as text: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`, the last two in Base64 without padding.
///
/// Source: PHC string format; the order of the parameters is the one that libargon2 writes and reads.
struct PasswordHashText {
    let parameters: PasswordHashParameters
    let hashByteCount: Int

    /// Longest text looked at; a 64-byte salt and hash stay below it.
    private static let byteLimit = 256

    init(parsing text: String) throws(PasswordHashingError) {
        guard text.utf8.count <= Self.byteLimit, !text.utf8.contains(0) else { throw .malformedHash }
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0].isEmpty, parts[1] == "argon2id", parts[2] == "v=19" else {
            throw .malformedHash
        }
        let costs = parts[3].split(separator: ",", omittingEmptySubsequences: false)
        guard costs.count == 3, let memory = Self.number(costs[0], "m="), let iterations = Self.number(costs[1], "t="),
            let parallelism = Self.number(costs[2], "p=")
        else { throw .malformedHash }
        let parameters = PasswordHashParameters(
            memoryKibibytes: memory, iterations: iterations, parallelism: parallelism)
        do throws(PasswordHashingError) { try parameters.validate() } catch { throw .malformedHash }
        self.parameters = parameters
        hashByteCount = parts[5].utf8.count * 3 / 4
    }

    private static func number(_ text: Substring, _ prefix: String) -> UInt32? {
        guard text.hasPrefix(prefix) else { return nil }
        let digits = text.dropFirst(prefix.count)
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return UInt32(digits)
    }
}
