import CArgon2
import NIOPosix
import Synchronization

/// Hashes and checks passwords with Argon2id, on threads of its own.
///
/// One hash takes tens of milliseconds and 19 MiB, on purpose. So it never runs on the threads that serve requests, at
/// most `threads` run at once, and at most `queueLimit` are admitted; whoever comes then is told `.busy`. It is for
/// people's passwords only: an API key is long and random, and a fast hash does for it.
public final class PasswordHasher: Sendable {
    /// Bytes of the longest password taken.
    public static let passwordByteLimit = 1_024

    private static let saltByteCount = 16
    private static let hashByteCount = 32

    public let parameters: PasswordHashParameters
    private let queueLimit: Int
    private let pool: NIOThreadPool
    private let admitted = Mutex(0)

    /// - Parameters:
    ///   - threads: hashes computed at the same time; 1 or 2.
    ///   - queueLimit: hashes admitted at the same time, those being computed included.
    /// - Throws: `.invalidParameters`.
    public init(
        parameters: PasswordHashParameters = PasswordHashParameters(), threads: Int = 1, queueLimit: Int = 32
    ) throws(PasswordHashingError) {
        try parameters.validate()
        guard (1...2).contains(threads) else { throw .invalidParameters("the threads are not 1 or 2") }
        guard (threads...1_024).contains(queueLimit) else {
            throw .invalidParameters("the queue limit is below the threads or above 1024")
        }
        self.parameters = parameters
        self.queueLimit = queueLimit
        pool = NIOThreadPool(numberOfThreads: threads)
        pool.start()
    }

    /// Hashes a password with a fresh random salt.
    /// - Returns: the PHC string to store.
    /// - Throws: `.passwordTooLong`, `.busy`, `.closed`, `.failed`.
    public func hash(_ password: [UInt8]) async throws(PasswordHashingError) -> String {
        try Self.check(password)
        let parameters = self.parameters
        return try await run { () throws(PasswordHashingError) in try Self.hash(password, parameters) }
    }

    /// Whether the password is the one that was hashed. The comparison takes the same time wherever they differ.
    /// - Throws: `.malformedHash` if the stored text is no acceptable Argon2id hash; `.passwordTooLong`, `.busy`,
    ///   `.closed`, `.failed`.
    public func verify(_ password: [UInt8], against stored: String) async throws(PasswordHashingError) -> Bool {
        try Self.check(password)
        _ = try PasswordHashText(parsing: stored)
        return try await run { () throws(PasswordHashingError) in try Self.verify(password, stored) }
    }

    /// Whether a stored hash was made with other costs than this hasher's, or cannot be read, and so should be replaced
    /// once the password is known.
    public func needsRehash(_ stored: String) -> Bool {
        guard let text = try? PasswordHashText(parsing: stored) else { return true }
        return text.parameters != parameters || text.hashByteCount != Self.hashByteCount
    }

    /// Ends the threads; what was admitted but not begun fails with `.closed`.
    public func shutdown() async {
        // The pool's only failure is that it was shut down before.
        try? await pool.shutdownGracefully()
    }

    private static func check(_ password: [UInt8]) throws(PasswordHashingError) {
        guard password.count <= passwordByteLimit else { throw .passwordTooLong }
    }

    private func run<Value: Sendable>(
        _ body: @escaping @Sendable () throws(PasswordHashingError) -> Value
    ) async throws(PasswordHashingError) -> Value {
        let isAdmitted = admitted.withLock { count in
            guard count < queueLimit else { return false }
            count += 1
            return true
        }
        guard isAdmitted else { throw .busy }
        defer { admitted.withLock { $0 -= 1 } }
        let result: Result<Value, PasswordHashingError>
        do {
            result = try await pool.runIfActive {
                do throws(PasswordHashingError) { return .success(try body()) } catch { return .failure(error) }
            }
        } catch {
            throw .closed
        }
        return try result.get()
    }

    private static func hash(
        _ password: [UInt8], _ parameters: PasswordHashParameters
    ) throws(PasswordHashingError) -> String {
        // On Linux this generator is getrandom(2).
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<saltByteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let capacity = argon2_encodedlen(
            parameters.iterations, parameters.memoryKibibytes, parameters.parallelism, UInt32(saltByteCount),
            UInt32(hashByteCount), Argon2_id)
        var encoded = [CChar](repeating: 0, count: capacity)
        let code = argon2id_hash_encoded(
            parameters.iterations, parameters.memoryKibibytes, parameters.parallelism, password, password.count, salt,
            salt.count, hashByteCount, &encoded, capacity)
        guard code == ARGON2_OK.rawValue else { throw .failed(code: code) }
        return String(decoding: encoded.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func verify(_ password: [UInt8], _ stored: String) throws(PasswordHashingError) -> Bool {
        let code = argon2id_verify(stored, password, password.count)
        switch code {
        case ARGON2_OK.rawValue: return true
        case ARGON2_VERIFY_MISMATCH.rawValue: return false
        // Not Base64, or salt or hash of a length that Argon2 does not have.
        case ARGON2_DECODING_FAIL.rawValue, ARGON2_SALT_TOO_SHORT.rawValue, ARGON2_OUTPUT_TOO_SHORT.rawValue:
            throw .malformedHash
        default: throw .failed(code: code)
        }
    }
}
