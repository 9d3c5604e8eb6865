import Glibc
import NIOPosix
import Synchronization

/// Redis servers for tests: one shared by the whole process, and private ones that a test may kill, stop or flush.
///
/// The shared server is the one named by `WEIR_TEST_REDIS_URL`, else a private one started at the first use. Tests that
/// use it keep to keys with a prefix of their own. No server outlives the process, however that ends.
public enum RedisServer {
    public struct StartFailure: Error, CustomStringConvertible {
        public let description: String
    }

    /// How a private server is reached.
    public enum Transport: Sendable {
        case unixSocket
        case tcp
        /// TLS on 127.0.0.1 and 127.0.0.2, with a certificate for `localhost` and 127.0.0.1 only, that
        /// `certificateAuthorityFile` signed.
        case tls
    }

    /// The URL of the shared server.
    public static func sharedURL() async throws -> String {
        if let url = getenv("WEIR_TEST_REDIS_URL").map({ String(cString: $0) }), !url.isEmpty { return url }
        return try await onThread { try shared.get().url }
    }

    /// Starts a server of the test's own; it lives until `stop()` or until the object goes.
    /// - Parameter arguments: more of redis-server's options, for example `["--notify-keyspace-events", "KEA"]`.
    public static func startPrivate(
        transport: Transport = .unixSocket, password: String? = nil, arguments: [String] = []
    ) async throws -> PrivateRedisServer {
        try await onThread {
            try PrivateRedisServer(transport: transport, password: password, arguments: arguments)
        }
    }

    private static let shared = Result { try PrivateRedisServer(transport: .unixSocket, password: nil, arguments: []) }

    /// Starting waits for processes, which must not happen on the threads that run the tests.
    static func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await NIOThreadPool.singleton.runIfActive(body)
    }
}

/// One redis-server process of this test process, without persistence.
public final class PrivateRedisServer: Sendable {
    public let url: String
    /// Where the server listens with TCP or TLS; zero with a Unix socket.
    public let port: Int
    /// PEM file of the authority that signed the server's certificate; `nil` without TLS.
    public let certificateAuthorityFile: String?

    private let folder: String
    private let arguments: [String]
    private let process: Mutex<GuardedProcess?>

    init(transport: RedisServer.Transport, password: String?, arguments extra: [String]) throws {
        folder = try Self.makeFolder()
        var options = [
            "--save", "", "--appendonly", "no", "--dir", folder, "--daemonize", "no", "--protected-mode", "no",
        ]
        let login = password.map { ":\($0)@" } ?? ""
        switch transport {
        case .unixSocket:
            options += ["--port", "0", "--unixsocket", "\(folder)/s"]
            (url, port, certificateAuthorityFile) = ("unix://\(login)\(folder)/s", 0, nil)
        case .tcp:
            let port = try Self.freePort()
            options += ["--bind", "127.0.0.1", "--port", "\(port)"]
            (url, self.port, certificateAuthorityFile) = ("redis://\(login)127.0.0.1:\(port)", port, nil)
        case .tls:
            try Self.makeCertificates(in: folder)
            let port = try Self.freePort()
            options += [
                "--bind", "127.0.0.1", "127.0.0.2", "--port", "0", "--tls-port", "\(port)", "--tls-auth-clients", "no",
            ]
            options += ["--tls-cert-file", "\(folder)/server.pem", "--tls-key-file", "\(folder)/server.key"]
            options += ["--tls-ca-cert-file", "\(folder)/ca.pem"]
            (url, self.port) = ("rediss://\(login)localhost:\(port)", port)
            certificateAuthorityFile = "\(folder)/ca.pem"
        }
        if let password { options += ["--requirepass", password] }
        arguments = options + extra
        process = Mutex(nil)
        try launch()
    }

    deinit {
        process.withLock { $0?.end() }
        for name in ["s", "ca.pem", "ca.key", "ca.srl", "server.pem", "server.key", "server.csr", "names"] {
            unlink("\(folder)/\(name)")
        }
        rmdir(folder)
    }

    /// Kills the server with SIGKILL, as a crash would.
    public func stop() async throws {
        try await RedisServer.onThread { self.process.withLock { $0.take()?.end() } }
    }

    /// Starts it again, empty, at the same address.
    public func restart() async throws {
        try await RedisServer.onThread {
            self.process.withLock { $0.take()?.end() }
            try self.launch()
        }
    }

    /// Freezes the server: connections stay open and nothing is answered.
    public func freeze() { process.withLock { $0?.signal(SIGSTOP) } }

    /// Lets a frozen server go on.
    public func thaw() { process.withLock { $0?.signal(SIGCONT) } }

    private func launch() throws {
        unlink("\(folder)/s")
        let started = try GuardedProcess("redis-server", arguments, folder: folder)
        process.withLock { $0 = started }
        for _ in 0..<1_000 {
            if Self.isListening(port: port, socketPath: "\(folder)/s") { return }
            guard started.isRunning else { break }
            usleep(10_000)
        }
        process.withLock { $0.take()?.end() }
        throw RedisServer.StartFailure(description: "redis-server did not begin to listen")
    }

    private static func makeFolder() throws -> String {
        var template = Array("/tmp/weir-redis-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw RedisServer.StartFailure(description: "no temporary folder, error \(errno)")
        }
        return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func makeCertificates(in folder: String) throws {
        guard let file = fopen("\(folder)/names", "w") else {
            throw RedisServer.StartFailure(description: "no file for the certificate's names")
        }
        fputs("subjectAltName=DNS:localhost,IP:127.0.0.1\n", file)
        fclose(file)
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        let steps = [
            ["req", "-x509"] + key + [
                "-keyout", "\(folder)/ca.key", "-out", "\(folder)/ca.pem", "-subj", "/CN=weir test CA",
            ],
            ["req"] + key.dropLast(2)
                + ["-keyout", "\(folder)/server.key", "-out", "\(folder)/server.csr", "-subj", "/CN=localhost"],
            [
                "x509", "-req", "-in", "\(folder)/server.csr", "-CA", "\(folder)/ca.pem", "-CAkey", "\(folder)/ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "\(folder)/names", "-out", "\(folder)/server.pem",
            ],
        ]
        for step in steps {
            let openssl = try GuardedProcess("openssl", step, folder: folder)
            guard openssl.exitStatus() == 0 else {
                throw RedisServer.StartFailure(description: "openssl \(step[0]) failed")
            }
        }
    }

    /// A port that was free a moment ago; Redis cannot choose one itself. Below 32768, where the kernel takes none for others.
    private static func freePort() throws -> Int {
        for _ in 0..<1_000 {
            let port = Int.random(in: 20_000..<32_000)
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            var address = loopback(port: port)
            let isFree = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            if isFree { return port }
        }
        throw RedisServer.StartFailure(description: "no free port, error \(errno)")
    }

    private static func loopback(port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    private static func isListening(port: Int, socketPath: String) -> Bool {
        let descriptor = socket(port == 0 ? AF_UNIX : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        guard port == 0 else {
            var address = loopback(port: port)
            return isConnected(descriptor, &address)
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: socketPath.utf8.prefix($0.count - 1)) }
        return isConnected(descriptor, &address)
    }

    private static func isConnected<Address>(_ descriptor: Int32, _ address: inout Address) -> Bool {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size)) == 0
            }
        }
    }
}

/// A child process that dies with this one, also when this one crashes.
///
/// Beside it runs a shell that waits on a socket whose other end only this process holds, and then kills the child.
/// When this process goes, the kernel closes that end. The child is not reaped before that shell is done, so its
/// number cannot have passed to another process by then.
private struct GuardedProcess: Sendable {
    private let child: pid_t
    private let guardian: pid_t
    private let lifeline: Int32

    /// - Parameter folder: removed as well if this process goes without having ended the child.
    init(_ program: String, _ arguments: [String], folder: String) throws {
        var ends: [Int32] = [0, 0]
        // A pair of sockets, because it can be kept from other children without a moment in between.
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw RedisServer.StartFailure(description: "no pair of sockets, error \(errno)")
        }
        defer { close(ends[0]) }
        lifeline = ends[1]
        child = try Self.spawn([program] + arguments, input: nil)
        let lastWill = "read -r _; kill -9 \(child); rm -rf \"$0\""
        guardian = try Self.spawn(["sh", "-c", lastWill, folder], input: ends[0])
    }

    var isRunning: Bool {
        var information = siginfo_t()
        return waitid(P_PID, id_t(child), &information, WEXITED | WNOHANG | WNOWAIT) == 0 && information.si_signo == 0
    }

    func signal(_ number: Int32) { kill(child, number) }

    /// Kills the child and waits for it.
    func end() {
        kill(child, SIGKILL)
        dismissGuardian()
        _ = Self.reap(child)
    }

    /// Waits for the child to end by itself.
    func exitStatus() -> Int32 {
        var information = siginfo_t()
        while waitid(P_PID, id_t(child), &information, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        dismissGuardian()
        return Self.reap(child)
    }

    /// Before the child is reaped, so that the guardian can only ever hit the child.
    private func dismissGuardian() {
        kill(guardian, SIGKILL)
        _ = Self.reap(guardian)
        close(lifeline)
    }

    private static func reap(_ process: pid_t) -> Int32 {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        return status
    }

    private static func spawn(_ words: [String], input: Int32?) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        for descriptor: Int32 in [1, 2] {
            posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0)
        }
        // NIO's sockets are inherited by children, and a connection whose one end a child keeps open never ends.
        // Closing what is not open is no error here.
        for descriptor: Int32 in 3..<1_024 { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var argv: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for word in argv { free(word) } }
        var process: pid_t = 0
        let status = posix_spawnp(&process, words[0], &actions, nil, &argv, environ)
        guard status == 0 else {
            throw RedisServer.StartFailure(description: "\(words[0]) cannot be started, error \(status)")
        }
        return process
    }
}
