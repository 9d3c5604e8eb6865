import Glibc
import NIOCore
import ServiceLifecycle

/// A listener that says which one it is when it cannot listen: the system's error names neither the address nor the
/// setting.
struct ListenerService: Service {
    let listener: any Service
    let host: String
    let port: Int
    /// The setting to change.
    let variable: String

    private static let reasons: Set<CInt> = [EADDRINUSE, EADDRNOTAVAIL, EACCES]

    func run() async throws {
        do {
            try await listener.run()
        } catch let error as IOError where Self.reasons.contains(error.errnoCode) {
            let address = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            let reason = String(cString: strerror(error.errnoCode))
            throw CommandFailure("cannot listen on \(address), which \(variable) asks for: \(reason)")
        }
    }
}
