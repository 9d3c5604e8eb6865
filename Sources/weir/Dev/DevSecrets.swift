import Domain
import Foundation
import Glibc

/// The secrets of a data folder, made once and kept in a file that only its owner can read.
struct DevSecrets: Codable, Sendable, Equatable {
    let pepper: String
    let customerKey: String
    let adminKey: String

    private enum CodingKeys: String, CodingKey {
        case pepper
        case customerKey = "customer_key"
        case adminKey = "admin_key"
    }

    init(pepper: String, customerKey: String, adminKey: String) {
        self.pepper = pepper
        self.customerKey = customerKey
        self.adminKey = adminKey
    }

    /// New ones from the system's generator.
    init(using generator: inout some RandomNumberGenerator) {
        pepper = Self.randomText(using: &generator)
        customerKey = APIKey(environment: .live, using: &generator).revealed
        adminKey = APIKey(environment: .admin, using: &generator).revealed
    }

    /// 256 random bits in hexadecimal.
    static func randomText(using generator: inout some RandomNumberGenerator) -> String {
        (0..<4).map { _ in
            let digits = String(generator.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }

    /// Reads the file, or makes one.
    static func loadOrMake(at path: String) throws -> DevSecrets {
        if FileManager.default.fileExists(atPath: path) {
            guard
                let secrets = try? JSONDecoder().decode(
                    DevSecrets.self, from: Data(contentsOf: URL(fileURLWithPath: path))),
                APIKey(parsing: secrets.customerKey.utf8)?.environment == .live,
                APIKey(parsing: secrets.adminKey.utf8)?.environment == .admin, secrets.pepper.utf8.count >= 32
            else {
                throw CommandFailure(
                    "\(path) is damaged. The keys in the database depend on it: restore it, or delete the whole folder to begin anew"
                )
            }
            // A copy or a restored backup may be readable for others.
            guard chmod(path, 0o600) == 0 else {
                throw CommandFailure("cannot make \(path) private: \(String(cString: strerror(errno)))")
            }
            return secrets
        }
        var generator = SystemRandomNumberGenerator()
        let secrets = DevSecrets(using: &generator)
        try PrivateFile.write(Data(try encoder.encode(secrets)), to: path)
        return secrets
    }

    private static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return encoder
    }
}

/// Files that only their owner can read, whole or not there at all.
enum PrivateFile {
    static func write(_ data: Data, to path: String) throws(CommandFailure) {
        let temporary = "\(path).\(getpid()).new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw CommandFailure("cannot write \(path): \(String(cString: strerror(errno)))") }
        let bytes = [UInt8](data)
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            offset += count
        }
        let isWhole = offset == bytes.count && fsync(descriptor) == 0
        close(descriptor)
        guard isWhole, rename(temporary, path) == 0 else {
            let reason = String(cString: strerror(errno))
            unlink(temporary)
            throw CommandFailure("cannot write \(path): \(reason)")
        }
    }
}
