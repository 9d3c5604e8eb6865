import Glibc
import Synchronization

/// TCP ports on the loopback address.
enum FreePort {
    /// Those that were given away and may not be listened on yet: the system would give them again.
    private static let given = Mutex(Set<Int>())

    /// A port that is free at this instant, each time another.
    static func any() throws(CommandFailure) -> Int {
        for _ in 0..<100 {
            guard let port = bound(0) else { break }
            if given.withLock({ $0.insert(port).inserted }) { return port }
        }
        throw CommandFailure("this machine has no free port")
    }

    /// Never gives this port away: somebody has asked for it.
    static func reserve(_ port: Int) { _ = given.withLock { $0.insert(port) } }

    static func isFree(_ port: Int) -> Bool { bound(port) != nil }

    /// Whether a port that is not free is merely not for this user: below 1024 most systems want a privilege.
    static func isPrivileged(_ port: Int) -> Bool { port < 1_024 && !isListening(port) }

    /// Binds, reads the port's number and lets go.
    private static func bound(_ port: Int) -> Int? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = loopback(port)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic -> Bool in
                bind(descriptor, generic, length) == 0 && listen(descriptor, 1) == 0
                    && getsockname(descriptor, generic, &length) == 0
            }
        } ? Int(UInt16(bigEndian: address.sin_port)) : nil
    }

    /// Whether something accepts connections there. Loopback answers at once, so this does not block.
    static func isListening(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var address = loopback(port)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    private static func loopback(_ port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }
}
