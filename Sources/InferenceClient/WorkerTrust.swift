internal import NIOSSL
internal import Synchronization

/// Which certificates of workers are believed. Verification itself, of chain and of name, cannot be turned off.
public struct WorkerTrust: Sendable {
    private static let systemContext = Mutex<NIOSSLContext?>(nil)
    private let ownContext: NIOSSLContext?

    /// The certificate authorities that the operating system trusts; read when the first worker with TLS is connected
    /// to.
    public static let system = WorkerTrust(ownContext: nil)

    private init(ownContext: NIOSSLContext?) {
        self.ownContext = ownContext
    }

    /// Trusts the authorities in a PEM file and no others. Reads the file now, so that a wrong one stops the start and
    /// not a request.
    ///
    /// - Throws: ``WorkerFailure/tls`` if the file cannot be read or holds no certificate.
    public init(certificateAuthorityFile path: String) throws(WorkerFailure) {
        do {
            guard try !NIOSSLCertificate.fromPEMFile(path).isEmpty else { throw WorkerFailure.tls }
            ownContext = try Self.makeContext(roots: .file(path))
        } catch {
            throw .tls
        }
    }

    /// `nil` if it has to be loaded first.
    var context: NIOSSLContext? { ownContext ?? Self.systemContext.withLock { $0 } }

    /// Blocks while the system's roots are read, but not with the lock: ``context`` is asked on event loops.
    func loadSystemContext() throws -> NIOSSLContext {
        if let context { return context }
        let loaded = try Self.makeContext(roots: .default)
        return Self.systemContext.withLock { context in
            let kept = context ?? loaded
            context = kept
            return kept
        }
    }

    private static func makeContext(roots: NIOSSLTrustRoots) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.certificateVerification = .fullVerification
        configuration.trustRoots = roots
        configuration.applicationProtocols = ["http/1.1"]
        return try NIOSSLContext(configuration: configuration)
    }
}
