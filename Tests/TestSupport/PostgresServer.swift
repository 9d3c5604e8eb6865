internal import Foundation
internal import PostgresDriver
internal import Synchronization

/// A real PostgreSQL for tests: the one named by `WEIR_TEST_DATABASE_URL` (an administrator's URL), or a private
/// cluster that is started once per test process and ends with it. Every test has a database of its own.
public enum PostgresServer {
    /// Runs a test with the URL of a fresh database, and drops the database afterwards, whoever is still connected.
    ///
    /// - Parameter template: a database to copy, for example one that is migrated already. Nobody may be connected to
    ///   it.
    public static func withDatabase<T: Sendable>(
        template: String? = nil, _ body: (String) async throws -> T
    ) async throws -> T {
        let adminURL = try await adminURL()
        let name = "t\(getpid())_\(UInt64.random(in: 0...UInt64.max))"
        // Names of our own making; CREATE DATABASE takes no parameters.
        try await run("CREATE DATABASE \(name)" + (template.map { " TEMPLATE \($0)" } ?? ""), on: adminURL)
        let result: Result<T, any Error>
        do {
            result = .success(try await body(replacingDatabase(of: adminURL, with: name)))
        } catch {
            result = .failure(error)
        }
        try await run("DROP DATABASE IF EXISTS \(name) WITH (FORCE)", on: adminURL)
        return try result.get()
    }

    /// Creates a database that stays until the process ends, to be used as a template.
    /// - Returns: its URL.
    public static func makeDatabase(named name: String) async throws -> String {
        let adminURL = try await adminURL()
        try await run("CREATE DATABASE \(name)", on: adminURL)
        return replacingDatabase(of: adminURL, with: name)
    }

    /// A cluster of the caller's own, for tests that stop or kill the server.
    public static func withPrivateCluster<T: Sendable>(_ body: (PostgresCluster) async throws -> T) async throws -> T {
        let cluster = try await PostgresCluster.start()
        let result: Result<T, any Error>
        do {
            result = .success(try await body(cluster))
        } catch {
            result = .failure(error)
        }
        await cluster.remove()
        return try result.get()
    }

    /// The URL of the maintenance database.
    public static func adminURL() async throws -> String {
        if let given = ProcessInfo.processInfo.environment["WEIR_TEST_DATABASE_URL"], !given.isEmpty { return given }
        return try await SharedCluster.shared.url()
    }

    /// The URL of another database of the same server, which need not exist.
    public static func url(ofDatabase name: String) async throws -> String {
        replacingDatabase(of: try await adminURL(), with: name)
    }

    /// Runs SQL text on a session of its own.
    public static func run(_ script: String, on url: String) async throws {
        try await PostgresThread(name: "test-admin").run {
            let session = PostgresSession(
                configuration: try PostgresConfiguration(
                    url: url, connectTimeoutMilliseconds: 60_000, answerTimeoutMilliseconds: 60_000))
            try session.connect()
            defer { session.close() }
            try session.run(script: script)
        }
    }

    private static func replacingDatabase(of url: String, with name: String) -> String {
        guard let mark = url.range(of: "://") else { return url }
        let query = url.firstIndex(of: "?") ?? url.endIndex
        let slash = url[mark.upperBound..<query].firstIndex(of: "/") ?? query
        return url[..<slash] + "/" + name + url[query...]
    }
}

/// The cluster of the whole test process. The first caller starts it; the others wait for that without blocking a
/// thread.
private actor SharedCluster {
    static let shared = SharedCluster()
    private var starting: Task<PostgresCluster, any Error>?

    func url() async throws -> String {
        let task = starting ?? Task { try await PostgresCluster.start() }
        starting = task
        return try await task.value.url
    }
}

/// A private PostgreSQL cluster in a temporary folder, reachable by its Unix socket only. Durability is off: it is
/// thrown away.
///
/// PostgreSQL refuses to run as root, so under root it runs as the user `postgres`.
public final class PostgresCluster: Sendable {
    /// A failure to start, with the end of the server's log.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// The URL of the maintenance database.
    public let url: String
    private let directory: String
    /// The server is told to stop when the thread that started it ends, so this thread lives as long as the cluster.
    private let thread: PostgresThread
    private let postmaster = Mutex<pid_t>(0)

    private init(directory: String, thread: PostgresThread) {
        self.directory = directory
        self.thread = thread
        url = "postgresql://postgres@/postgres?host=\(directory)&port=5432"
    }

    fileprivate static func start() async throws -> PostgresCluster {
        let thread = try PostgresThread(name: "test-cluster")
        let cluster = try await thread.run {
            var template = Array("/tmp/weirpgXXXXXX".utf8CString)
            guard mkdtemp(&template) != nil else { throw Failure(description: "no temporary folder: errno \(errno)") }
            let directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if getuid() == 0, let owner = getpwnam("postgres") {
                chown(directory, owner.pointee.pw_uid, owner.pointee.pw_gid)
            }
            return PostgresCluster(directory: directory, thread: thread)
        }
        LiveClusters.add(cluster)
        try await thread.run {
            let arguments = [
                "-D", cluster.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
            ]
            let pid = try cluster.spawn("initdb", arguments)
            guard wait(for: pid) == 0 else { throw Failure(description: "initdb failed: \(cluster.logTail)") }
        }
        try await cluster.start()
        return cluster
    }

    /// Starts the server of a cluster that was stopped, and returns when it accepts connections.
    public func start() async throws {
        try await thread.run { [self] in
            let settings = [
                "listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=64MB",
                "timezone=UTC", "log_timezone=UTC",
            ]
            let arguments = ["-D", data, "-k", directory, "-p", "5432"] + settings.flatMap { ["-c", $0] }
            let pid = try spawn("postgres", arguments)
            postmaster.withLock { $0 = pid }
            try waitUntilReady()
        }
    }

    /// Stops the server at once, as a crash of the machine would: no checkpoint, connections are cut.
    public func stop() async {
        await thread.run { [self] in stopNow() }
    }

    /// Freezes the server with all of its backends: connections stay open and nothing answers.
    public func suspend() {
        // The postmaster first, so that it starts no further process meanwhile.
        for pid in processes { kill(pid, SIGSTOP) }
    }

    /// Lets a frozen server go on.
    public func resume() {
        for pid in processes.reversed() { kill(pid, SIGCONT) }
    }

    /// The postmaster and its children.
    private var processes: [pid_t] {
        let pid = postmaster.withLock { $0 }
        guard pid > 0 else { return [] }
        let children = (try? String(contentsOfFile: "/proc/\(pid)/task/\(pid)/children", encoding: .utf8)) ?? ""
        return [pid] + children.split(separator: " ").compactMap { pid_t($0) }
    }

    private var data: String { directory + "/data" }
    private var log: String { directory + "/log" }
    private var logTail: String {
        String(((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").suffix(2_000))
    }

    fileprivate func remove() async {
        await thread.run { [self] in removeNow() }
    }

    fileprivate func removeNow() {
        stopNow()
        try? FileManager.default.removeItem(atPath: directory)
        LiveClusters.remove(self)
    }

    private func stopNow() {
        let pid = postmaster.withLock { pid in
            defer { pid = 0 }
            return pid
        }
        guard pid > 0 else { return }
        // A frozen process does not see SIGQUIT (immediate shutdown) before it goes on.
        kill(pid, SIGQUIT)
        kill(pid, SIGCONT)
        _ = Self.wait(for: pid)
    }

    private func waitUntilReady() throws {
        let configuration = try PostgresConfiguration(url: url, connectTimeoutMilliseconds: 1_000)
        for _ in 0..<3_000 {
            let session = PostgresSession(configuration: configuration)
            if (try? session.connect()) != nil {
                session.close()
                return
            }
            let pid = postmaster.withLock { $0 }
            var status: Int32 = 0
            guard waitpid(pid, &status, WNOHANG) == 0 else {
                postmaster.withLock { $0 = 0 }
                break
            }
            usleep(10_000)
        }
        throw Failure(description: "the server did not start: \(logTail)")
    }

    private static func wait(for pid: pid_t) -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) == -1, errno == EINTR {}
        return status
    }

    /// Starts a program of PostgreSQL without privileges; it is told to quit when our thread ends.
    private func spawn(_ program: String, _ arguments: [String]) throws -> pid_t {
        var words = ["/usr/bin/setpriv", "--pdeathsig", "QUIT"]
        if getuid() == 0 { words += ["--reuid=postgres", "--regid=postgres", "--clear-groups"] }
        words += [Self.binaries + "/" + program] + arguments

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)

        let strings = words.map { strdup($0) }
        defer { for string in strings { free(string) } }
        var pid = pid_t()
        let code = posix_spawn(&pid, words[0], &actions, nil, strings + [nil], environ)
        guard code == 0 else { throw Failure(description: "\(program) cannot be started: errno \(code)") }
        return pid
    }

    /// The newest installed server. Debian keeps the server's programs out of PATH.
    private static let binaries: String = {
        if let given = ProcessInfo.processInfo.environment["WEIR_POSTGRES_BIN"], !given.isEmpty { return given }
        let root = "/usr/lib/postgresql"
        let versions = ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).compactMap { Int($0) }
        return versions.max().map { "\(root)/\($0)/bin" } ?? "/usr/local/pgsql/bin"
    }()
}

/// The clusters to be removed when the process exits.
private enum LiveClusters {
    private static let clusters = Mutex<[PostgresCluster]>([])
    private static let registration: Void = {
        atexit { for cluster in LiveClusters.clusters.withLock({ $0 }) { cluster.removeNow() } }
    }()

    static func add(_ cluster: PostgresCluster) {
        _ = registration
        clusters.withLock { $0.append(cluster) }
    }

    static func remove(_ cluster: PostgresCluster) {
        clusters.withLock { $0.removeAll { $0 === cluster } }
    }
}
