import Foundation
import Glibc
import Testing

@testable import weir

@Suite("weir dev")
struct DevTests {
    private static let me = PostgresUser(name: "", userID: 1_000, groupID: 1_000, mustDrop: false)
    private static let dropped = PostgresUser(name: "postgres", userID: 105, groupID: 110, mustDrop: true)

    private func launch(_ user: PostgresUser) -> PostgresLaunch {
        PostgresLaunch(
            binaries: "/usr/lib/postgresql/15/bin", clusterFolder: "/d/postgres/data", socketFolder: "/d/postgres/run",
            user: user,
            setpriv: "/usr/bin/setpriv")
    }

    @Test("PostgreSQL listens on its socket alone and keeps fsync")
    func serverArguments() {
        let words = launch(Self.me).serve()
        #expect(words.prefix(3) == ["/usr/lib/postgresql/15/bin/postgres", "-D", "/d/postgres/data"])
        #expect(words.contains("listen_addresses="))
        #expect(words.contains("unix_socket_directories=/d/postgres/run"))
        #expect(
            !words.contains {
                $0.contains("fsync=") || $0.contains("synchronous_commit") || $0.contains("full_page_writes")
            })
    }

    @Test("root changes the user for every PostgreSQL program, others do not")
    func dropsPrivileges() {
        let prefix = ["/usr/bin/setpriv", "--reuid=105", "--regid=110", "--clear-groups", "--"]
        let asRoot = launch(Self.dropped)
        for words in [asRoot.serve(), asRoot.initialize(into: "/d/new"), asRoot.isReady(), asRoot.createDatabase()] {
            #expect(words.prefix(5) == prefix[...])
        }
        let asMe = launch(Self.me)
        for words in [asMe.serve(), asMe.initialize(into: "/d/new"), asMe.isReady(), asMe.createDatabase()] {
            #expect(words[0].hasPrefix("/usr/lib/postgresql/15/bin/"))
        }
    }

    @Test("a new cluster trusts its socket and refuses the network")
    func initialization() {
        let words = launch(Self.me).initialize(into: "/d/postgres/data.new")
        #expect(words.contains("--pgdata=/d/postgres/data.new"))
        #expect(words.contains("--auth-local=trust") && words.contains("--auth-host=reject"))
        #expect(words.contains("--username=weir"))
    }

    @Test("the database's URL carries the socket folder encoded, and its own port against a PGPORT of the shell")
    func databaseURL() {
        let launch = PostgresLaunch(
            binaries: "", clusterFolder: "", socketFolder: "/tmp/a b/ü", user: Self.me, setpriv: "")
        #expect(launch.databaseURL == "postgresql:///weir?host=%2Ftmp%2Fa%20b%2F%C3%BC&port=5432&user=weir")
        #expect(DatabaseURL(launch.databaseURL)?.text == launch.databaseURL)
    }

    @Test("the newest PostgreSQL is taken, or the one that made the cluster")
    func binaries() {
        let versioned = [(major: 9, folder: "/9"), (major: 15, folder: "/15"), (major: 13, folder: "/13")]
        #expect(PostgresBinaries.choose(requiredMajor: nil, versioned: versioned, onPath: []) == "/15")
        #expect(PostgresBinaries.choose(requiredMajor: 13, versioned: versioned, onPath: []) == "/13")
        #expect(PostgresBinaries.choose(requiredMajor: 14, versioned: versioned, onPath: []) == nil)
        #expect(
            PostgresBinaries.choose(requiredMajor: nil, versioned: [], onPath: [(nil, "/usr/local/bin")])
                == "/usr/local/bin")
        #expect(PostgresBinaries.major(ofClusterVersion: "15\n") == 15)
        #expect(PostgresBinaries.major(ofClusterVersion: "9.6\n") == 9)
    }

    @Test("the socket lies in the data folder unless its path would be too long")
    func socketFolder() throws {
        let short = layout("/srv/weir")
        #expect(short.socketFolder == "/srv/weir/postgres/run")
        // 100 bytes with /postgres/run/.s.PGSQL.5432 behind the root.
        let behind = "/postgres/run/.s.PGSQL.5432".utf8.count
        let fits = layout("/" + String(repeating: "a", count: 99 - behind))
        #expect(fits.socketFolder != nil)
        let tooLong = layout("/" + String(repeating: "a", count: 100 - behind))
        #expect(tooLong.socketFolder == nil)
    }

    @Test("a cluster that PostgreSQL's user could not reach gets another place, the same one each time")
    func unreachableFolder() {
        let unreachable = layout("/root/project/.weir", mayReach: false)
        #expect(unreachable.postgresFolder == layout("/root/project/.weir", mayReach: false).postgresFolder)
        #expect(unreachable.postgresFolder.hasPrefix("/var/lib/weir-dev/") && unreachable.isClusterOutside)
        #expect(unreachable.postgresFolder != layout("/root/other/.weir", mayReach: false).postgresFolder)
        #expect(unreachable.secretsPath == "/root/project/.weir/secrets.json")
    }

    @Test("a cluster that is there is found again when the permissions have changed")
    func foundAgain() {
        let outside = DevLayout.outsideFolder("/d")
        #expect(layout("/d", existing: [outside + "/data"], mayReach: true).postgresFolder == outside)
        #expect(layout("/d", existing: ["/d/postgres/data"], mayReach: false).postgresFolder == "/d/postgres")
        #expect(
            layout("/d", existing: ["/d/postgres/data", outside + "/data"], mayReach: false).postgresFolder
                == "/d/postgres")
    }

    private func layout(_ root: String, existing: Set<String> = [], mayReach: Bool = true) -> DevLayout {
        DevLayout(root: root, exists: existing.contains, mayReach: { _ in mayReach })
    }

    @Test("Redis listens on loopback, wants its password and keeps nothing")
    func redisConfiguration() {
        let launch = RedisLaunch(
            executable: "/usr/bin/redis-server", folder: "/d/re\"dis", port: 7_001, password: "secret")
        let lines = launch.configuration.split(separator: "\n").map(String.init)
        for line in [
            "bind 127.0.0.1", "port 7001", "requirepass secret", "save \"\"", "appendonly no", "dir \"/d/re\\\"dis\"",
            "daemonize no",
        ] {
            #expect(lines.contains(line))
        }
        #expect(launch.command == ["/usr/bin/redis-server", "/d/re\"dis/redis.conf"])
        #expect(launch.url == "redis://:secret@127.0.0.1:7001/0")
        #expect(!launch.command.joined().contains("secret"))
    }

    @Test("children get nothing of another project's environment")
    func environment() {
        let cleaned = DevEnvironment.cleaned([
            "PATH": "/bin", "PGHOST": "elsewhere", "PGPASSWORD": "x", "DATABASE_URL": "x", "DATABASE_URL_FILE": "x",
            "REDIS_URL": "x",
            "WEIR_KEY_PEPPER": "x", "WEIR_PORT": "1", "WEIR_CONFIG": "x", "WEIR_LOG_LEVEL": "debug",
            "DB_POOL_SIZE": "3", "WEIR_FAULT": "f",
        ])
        #expect(
            cleaned == [
                "PATH": "/bin", "WEIR_LOG_LEVEL": "debug", "DB_POOL_SIZE": "3", "WEIR_FAULT": "f", "LC_ALL": "C",
            ])
    }

    @Test("secrets are made once, private, and strong enough for the server that reads them")
    func secrets() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/secrets.json"
        let made = try DevSecrets.loadOrMake(at: path)
        #expect(try DevSecrets.loadOrMake(at: path) == made)
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(chmod(path, 0o644) == 0)
        #expect(try DevSecrets.loadOrMake(at: path) == made)
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        let settings = try Settings.load(
            SettingsSource(environment: ["WEIR_KEY_PEPPER": made.pepper, "WEIR_ADMIN_KEY": made.adminKey]))
        #expect(settings.keyPepper == Array(made.pepper.utf8) && settings.adminKey == made.adminKey)
        #expect(made.customerKey.hasPrefix("weir_live_"))
    }

    @Test(
        "a damaged secrets file is an error, not a new set of secrets", arguments: ["", "{}", "{\"pepper\":\"short\"}"])
    func damagedSecrets(text: String) throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/secrets.json"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: CommandFailure.self) { try DevSecrets.loadOrMake(at: path) }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }

    @Test("a second holder of the lock is refused with the first one's process number")
    func lock() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/lock"
        do {
            let first = try DevLock(path: path)
            let failure = #expect(throws: CommandFailure.self) { _ = try DevLock(path: path) }
            #expect(failure?.message.contains("process \(getpid())") == true)
            _ = consume first
        }
        _ = try DevLock(path: path)
    }

    @Test("a port is free until somebody listens")
    func ports() throws {
        let port = try FreePort.any()
        #expect((1...65_535).contains(port))
        #expect(FreePort.isFree(port) && !FreePort.isListening(port))
    }

    @Test("the start time is read behind a name with spaces and parentheses, and a zombie counts as gone")
    func processStatus() {
        let rest = (4...21).map(String.init).joined(separator: " ")
        #expect(RememberedChild.startTicks(inStat: "7 (a) b (c)) S \(rest) 4711 23") == "4711")
        #expect(RememberedChild.startTicks(inStat: "7 (a) Z \(rest) 4711 23") == nil)
        #expect(RememberedChild.startTicks(inStat: "") == nil)
    }

    @Test("the JSON has exactly the announced fields, and no Redis is null")
    func reportJSON() throws {
        let report = DevReport(
            publicURL: "http://127.0.0.1:1", adminURL: "a", customerKey: "c", adminKey: "k", tenantID: "t",
            databaseURL: "d", redisURL: nil,
            workerURL: "w", dataFolder: "/d", serveEnvironment: ["DATABASE_URL": "d"], firstPrediction: "p")
        let text = try report.json()
        #expect(!text.contains("\n"))
        let object = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(
            object.keys.sorted() == [
                "admin_key", "admin_url", "customer_key", "data_dir", "database_url", "public_url", "redis_url",
                "serve_env", "tenant_id",
                "worker_url",
            ])
        #expect(object["redis_url"] is NSNull)
        #expect(object["serve_env"] as? [String: String] == ["DATABASE_URL": "d"])
    }

    @Test("the screen has three commands, each on one line")
    func screen() {
        let report = DevReport(
            publicURL: "http://127.0.0.1:1", adminURL: "a", customerKey: "KEY", adminKey: "k", tenantID: "t",
            databaseURL: "d", redisURL: "r",
            workerURL: "w", dataFolder: "/d", serveEnvironment: [:], firstPrediction: "p")
        let commands = report.screen.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.filter {
            $0.hasPrefix("curl ")
        }
        #expect(commands.count == 3)
        #expect(commands.allSatisfy { $0.contains("Bearer KEY") && $0.contains("http://127.0.0.1:1/") })
    }

    @Test("a log above the limit is put aside")
    func rotation() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/a.log"
        try Data(count: LogRotation.limitBytes).write(to: URL(fileURLWithPath: path))
        LogRotation.rotate(path)
        #expect(FileManager.default.fileExists(atPath: path))
        try Data(count: LogRotation.limitBytes + 1).write(to: URL(fileURLWithPath: path))
        LogRotation.rotate(path)
        #expect(!FileManager.default.fileExists(atPath: path) && FileManager.default.fileExists(atPath: path + ".1"))
    }
}

@Suite("Child processes")
struct ChildProcessTests {
    @Test("the exit code, the first line and the log are there")
    func ends() async throws {
        let folder = try TemporaryFolder()
        let log = folder.path + "/a.log"
        let child = try ChildProcess(
            ChildCommand(name: "a", arguments: ["/bin/sh", "-c", "echo one; echo two; echo trouble >&2; exit 3"]),
            logPath: log, readsOutput: true)
        #expect(await child.waitForEnd(milliseconds: 20_000))
        #expect(child.exitCode == 3)
        #expect(await eventually { child.firstLine == "one" })
        #expect(LogTail.read(log) == "  trouble")
    }

    @Test("a child leads a session of its own, gets its environment and nothing else, and ignores no signal")
    func surroundings() async throws {
        let folder = try TemporaryFolder()
        signal(SIGHUP, SIG_IGN)
        let child = try ChildProcess(
            ChildCommand(
                name: "a",
                arguments: [
                    "/bin/sh", "-c",
                    "echo $(cut -d' ' -f6 /proc/$$/stat) $$ \"$ONLY\" \"$HOME\" $(grep SigIgn /proc/$$/status)",
                ],
                environment: ["ONLY": "this", "PATH": "/usr/bin:/bin"]),
            logPath: folder.path + "/a.log", readsOutput: true)
        #expect(await child.waitForEnd(milliseconds: 20_000))
        #expect(await eventually { child.firstLine != nil })
        let words = child.firstLine?.split(separator: " ").map(String.init) ?? []
        #expect(words.prefix(4) == ["\(child.processID)", "\(child.processID)", "this", "SigIgn:"])
        // The C library keeps the signals 32 and 33 to itself.
        let ignored = try #require(words.last.flatMap { UInt64($0, radix: 16) })
        #expect(ignored & 0x7FFF_FFFF == 0)
    }

    @Test("a child that watches its standard input ends when we let go, and not before")
    func standardInput() async throws {
        let folder = try TemporaryFolder()
        let child = try ChildProcess(ChildCommand(name: "a", arguments: ["/bin/cat"]), logPath: folder.path + "/a.log")
        #expect(await !child.waitForEnd(milliseconds: 100))
        child.send(SIGTERM)
        #expect(await child.waitForEnd(milliseconds: 20_000))
        #expect(child.exitCode == 128 + SIGTERM)
        // The process is gone; its number may be somebody else's.
        child.send(SIGKILL)
    }

    @Test("a program that is not there is an error that names it")
    func missing() throws {
        let folder = try TemporaryFolder()
        let failure = #expect(throws: CommandFailure.self) {
            _ = try ChildProcess(
                ChildCommand(name: "a", arguments: ["/nowhere/program"]), logPath: folder.path + "/a.log")
        }
        #expect(failure?.message.contains("/nowhere/program") == true)
    }

    @Test("children stop in the order opposite to their start, and the record goes")
    func stopping() async throws {
        let folder = try TemporaryFolder()
        let record = folder.path + "/children.json"
        let children = DevChildren(recordPath: record)
        for name in ["first", "second"] {
            _ = try children.start(
                ChildCommand(name: name, arguments: ["/bin/sleep", "100"]), logPath: folder.path + "/a.log")
        }
        let remembered = try JSONDecoder().decode(
            [RememberedChild].self, from: Data(contentsOf: URL(fileURLWithPath: record)))
        #expect(remembered.map(\.name) == ["first", "second"])
        #expect(remembered.allSatisfy { $0.isRunning })
        var reports: [String] = []
        await children.stopAll(report: { reports.append($0) }, hurry: { false })
        #expect(reports == ["Stopping second", "Stopping first"])
        #expect(remembered.allSatisfy { !$0.isRunning })
        #expect(!FileManager.default.fileExists(atPath: record))
    }

    @Test("PostgreSQL shuts down in order even for somebody without patience")
    func impatience() async throws {
        let folder = try TemporaryFolder()
        let children = DevChildren(recordPath: folder.path + "/children.json")
        let script = "trap 'sleep 0.3; exit 7' INT; echo ready; while :; do sleep 0.05; done"
        let server = try children.start(
            ChildCommand(
                name: "postgres", arguments: ["/bin/sh", "-c", script], environment: ["PATH": "/usr/bin:/bin"]),
            logPath: folder.path + "/a.log", readsOutput: true)
        #expect(await eventually { server.firstLine == "ready" })
        await children.stopAll(report: { _ in }, hurry: { true })
        #expect(server.exitCode == 7)
    }

    @Test("a child that ends by itself is handed out once")
    func ending() async throws {
        let folder = try TemporaryFolder()
        let children = DevChildren(recordPath: folder.path + "/children.json")
        let child = try children.start(
            ChildCommand(name: "worker", arguments: ["/bin/sleep", "100"]), logPath: folder.path + "/a.log")
        #expect(children.takeEnded().isEmpty)
        child.send(SIGKILL)
        #expect(await child.waitForEnd(milliseconds: 20_000))
        #expect(children.takeEnded().map(\.name) == ["worker"])
        #expect(children.takeEnded().isEmpty)
    }

    @Test("leftovers of a killed predecessor are ended, and a process that only has the same number is not")
    func leftovers() async throws {
        let folder = try TemporaryFolder()
        let record = folder.path + "/children.json"
        let mine = try ChildProcess(
            ChildCommand(name: "redis", arguments: ["/bin/sleep", "100"]), logPath: folder.path + "/a.log")
        let innocent = try ChildProcess(
            ChildCommand(name: "other", arguments: ["/bin/sleep", "100"]), logPath: folder.path + "/a.log")
        let known = try #require(RememberedChild(name: "redis", processID: mine.processID))
        let text = """
            [{"name":"redis","pid":\(known.processID),"start_ticks":"\(known.startTicks)"},
             {"name":"worker","pid":\(innocent.processID),"start_ticks":"1"}]
            """
        try Data(text.utf8).write(to: URL(fileURLWithPath: record))
        try await Leftovers.stop(recordedAt: record, clusterFolder: folder.path + "/none") { _ in }
        #expect(await mine.waitForEnd(milliseconds: 20_000))
        #expect(innocent.isRunning)
        innocent.send(SIGKILL)
        #expect(await innocent.waitForEnd(milliseconds: 20_000))
        #expect(!FileManager.default.fileExists(atPath: record))
    }

    @Test("a server that nobody wrote down is found by its cluster, also through a symbolic link")
    func leftoverServer() async throws {
        let folder = try TemporaryFolder()
        let (cluster, link) = (folder.path + "/data", folder.path + "/link")
        try FileManager.default.createDirectory(atPath: cluster, withIntermediateDirectories: false)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: cluster)
        let server = try ChildProcess(
            ChildCommand(
                name: "postgres", arguments: ["/bin/sh", "-c", "cd '\(cluster)' && echo there && exec sleep 100"],
                environment: ["PATH": "/usr/bin:/bin"]),
            logPath: folder.path + "/a.log", readsOutput: true)
        #expect(await eventually { server.firstLine == "there" })
        try Data("\(server.processID)\n".utf8).write(to: URL(fileURLWithPath: cluster + "/postmaster.pid"))
        try await Leftovers.stop(recordedAt: folder.path + "/children.json", clusterFolder: link) { _ in }
        #expect(await server.waitForEnd(milliseconds: 5_000))
        server.send(SIGKILL)
    }

    /// Asks again until the answer is yes, for at most 20 seconds.
    private func eventually(_ condition: () -> Bool) async -> Bool {
        for _ in 0..<2_000 {
            if condition() { return true }
            await Pause.uninterrupted(milliseconds: 10)
        }
        return condition()
    }
}

/// A folder that goes with its owner.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/weir-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
