import Domain
import Foundation
import Glibc

/// Everything that `weir dev` starts, and in what order.
struct DevInstallation: Sendable {
    struct Options: Sendable {
        var dataFolder: String
        var port: Int
        var adminPort: Int
        var usesRedis: Bool
    }

    let options: Options
    let layout: DevLayout
    let user: PostgresUser
    let executable: String
    let environment: [String: String]

    /// Finds out where things go, without changing anything.
    /// - Parameter dataFolder: absolute.
    init(options: Options, environment: [String: String]) throws {
        self.options = options
        executable = try Executables.own()
        let root = (options.dataFolder as NSString).standardizingPath
        let candidates = ["\(root)/postgres/data", DevLayout.outsideFolder(root) + "/data"]
        let owner = candidates.compactMap { path -> UInt32? in
            (try? FileManager.default.attributesOfItem(atPath: path))?[.ownerAccountID] as? UInt32
        }.first
        let user = try PostgresUser.choose(existingOwner: owner)
        self.user = user
        layout = DevLayout(root: root, exists: FileManager.default.fileExists(atPath:), mayReach: user.mayReach)
        self.environment = DevEnvironment.cleaned(environment)
    }

    /// Makes the folders. Before the lock is taken only the data folder itself is touched.
    func makeDataFolder() throws {
        try Folders.make(layout.root, mode: user.mustDrop ? 0o711 : 0o700)
    }

    /// Starts everything and makes a first prediction.
    func bringUp(_ children: DevChildren, report: (String) -> Void) async throws -> DevReport {
        try await Leftovers.stop(recordedAt: layout.childrenPath, clusterFolder: layout.clusterFolder, report: report)
        try Folders.make(layout.logsFolder, mode: 0o700)
        for name in ["postgres", "redis", "worker", "serve"] { LogRotation.rotate(layout.logPath(name)) }
        try requireFree(options.port, flag: "--port")
        try requireFree(options.adminPort, flag: "--admin-port")
        try setAsideForeignCluster(report)
        let secrets = try DevSecrets.loadOrMake(at: layout.secretsPath)

        let postgres = try await startPostgres(children, report)
        let redis = try await startRedis(children, report)
        let workerURL = try await startWorker(children, report)
        let address = try Self.workerAddress(workerURL)

        report("Migrating and preparing the demo tenant")
        let tenantID = try await DevSeed.prepare(
            databaseURL: postgres.databaseURL, secrets: secrets, workerAddress: address)

        var serveEnvironment = ["DATABASE_URL": postgres.databaseURL, "WEIR_KEY_PEPPER": secrets.pepper]
        serveEnvironment["REDIS_URL"] = redis?.url
        // Only now: what is free is drawn by the worker and others as well.
        let port = options.port == 0 ? try FreePort.any() : options.port
        let adminPort = options.adminPort == 0 ? try FreePort.any() : options.adminPort
        let publicURL = "http://127.0.0.1:\(port)"
        try await startServe(children, serveEnvironment, port: port, adminPort: adminPort, report)
        let prediction = try await FirstPrediction.make(publicURL: publicURL, key: secrets.customerKey)
        return DevReport(
            publicURL: publicURL, adminURL: "http://127.0.0.1:\(adminPort)", customerKey: secrets.customerKey,
            adminKey: secrets.adminKey,
            tenantID: tenantID, databaseURL: postgres.databaseURL, redisURL: redis?.url, workerURL: workerURL,
            dataFolder: layout.root,
            serveEnvironment: serveEnvironment, firstPrediction: prediction)
    }

    /// A cluster outside of the data folder whose secrets are gone belongs to a data folder that was deleted to begin
    /// anew. It is moved, not deleted: it may be the only copy of somebody's data.
    private func setAsideForeignCluster(_ report: (String) -> Void) throws {
        let files = FileManager.default
        guard layout.isClusterOutside, files.fileExists(atPath: layout.clusterFolder),
            !files.fileExists(atPath: layout.secretsPath)
        else { return }
        let aside = layout.postgresFolder + ".\(time(nil))"
        report("The cluster of an earlier data folder of this name is moved to \(aside)")
        guard rename(layout.postgresFolder, aside) == 0 else {
            throw CommandFailure("cannot move \(layout.postgresFolder): \(String(cString: strerror(errno)))")
        }
    }

    /// Before anything is started, for a port that was asked for; 0 is any.
    private func requireFree(_ wanted: Int, flag: String) throws(CommandFailure) {
        FreePort.reserve(wanted)
        guard wanted != 0, !FreePort.isFree(wanted) else { return }
        let obstacle = FreePort.isPrivileged(wanted) ? "is not for this user to listen on" : "is in use"
        throw CommandFailure("port \(wanted) \(obstacle): give another with \(flag), or \(flag) 0 for any free one")
    }

    private static func workerAddress(_ url: String) throws(CommandFailure) -> WorkerAddress {
        guard let address = WorkerAddress(url) else {
            throw CommandFailure("the worker printed \(url), which is no address")
        }
        return address
    }

    // MARK: PostgreSQL

    private func startPostgres(_ children: DevChildren, _ report: (String) -> Void) async throws -> PostgresLaunch {
        let version = try? String(contentsOfFile: layout.clusterFolder + "/PG_VERSION", encoding: .utf8)
        let binaries = try PostgresBinaries.find(
            requiredMajor: version.flatMap(PostgresBinaries.major(ofClusterVersion:)))
        guard let setpriv = user.mustDrop ? Executables.find("setpriv") : "" else {
            throw CommandFailure(
                "PostgreSQL does not run as root, and `setpriv` of util-linux, which changes the user, is missing")
        }
        try Folders.make(layout.postgresFolder, mode: 0o700, owner: user)
        let socketFolder = try makeSocketFolder()
        let launch = PostgresLaunch(
            binaries: binaries, clusterFolder: layout.clusterFolder, socketFolder: socketFolder, user: user,
            setpriv: setpriv)
        if version == nil { try await initialize(launch, report) }
        report("Starting PostgreSQL")
        let server = try children.start(
            ChildCommand(name: "postgres", arguments: launch.serve(), environment: environment),
            logPath: layout.logPath("postgres"))
        try await waitUntil("PostgreSQL", server, limitMilliseconds: 60_000) {
            try await runPostgresTool("pg_isready", launch.isReady()) == 0
        }
        if !FileManager.default.fileExists(atPath: layout.databaseMarkerPath) { try await createDatabase(launch) }
        return launch
    }

    /// A folder whose path is short enough for a socket, reachable by PostgreSQL's user and root alone.
    private func makeSocketFolder() throws -> String {
        if let folder = layout.socketFolder {
            try Folders.make(folder, mode: 0o700, owner: user)
            return folder
        }
        // One folder for each data folder, so that none is left behind by every start.
        let folder = "/tmp/weir-\(user.userID)-\(DevLayout.shortHash(layout.root))"
        try Folders.make(folder, mode: 0o700, owner: user)
        try Folders.requirePrivate(folder, owner: user)
        return folder
    }

    /// Makes the cluster beside its place and moves it there whole, so that an interrupted start leaves nothing that
    /// looks like one.
    private func initialize(_ launch: PostgresLaunch, _ report: (String) -> Void) async throws {
        report("Making a PostgreSQL cluster in \(layout.postgresFolder)")
        let unfinished = layout.postgresFolder + "/data.new"
        try? FileManager.default.removeItem(atPath: unfinished)
        let code = try await runPostgresTool("initdb", launch.initialize(into: unfinished), limitMilliseconds: 180_000)
        guard code == 0, rename(unfinished, layout.clusterFolder) == 0 else {
            throw CommandFailure(
                "initdb failed; the end of \(layout.logPath("postgres")) says:\n\(LogTail.read(layout.logPath("postgres")))"
            )
        }
    }

    private func createDatabase(_ launch: PostgresLaunch) async throws {
        let code = try await runPostgresTool("createdb", launch.createDatabase())
        let tail = LogTail.read(layout.logPath("postgres"))
        // A start that was killed between making the database and writing it down finds it there.
        guard code == 0 || tail.contains("already exists") else { throw CommandFailure("createdb failed:\n\(tail)") }
        try PrivateFile.write(Data(), to: layout.databaseMarkerPath)
    }

    private func runPostgresTool(_ name: String, _ arguments: [String], limitMilliseconds: Int = 30_000) async throws
        -> Int32
    {
        try await ChildProcess.run(
            ChildCommand(name: name, arguments: arguments, environment: environment),
            logPath: layout.logPath("postgres"),
            limitMilliseconds: limitMilliseconds)
    }

    // MARK: Redis, worker, server

    private func startRedis(_ children: DevChildren, _ report: (String) -> Void) async throws -> RedisLaunch? {
        guard options.usesRedis else { return nil }
        guard let executable = RedisLaunch.findExecutable() else {
            report("redis-server is not installed; going on without it")
            return nil
        }
        report("Starting Redis")
        try Folders.make(layout.redisFolder, mode: 0o700)
        var generator = SystemRandomNumberGenerator()
        let launch = RedisLaunch(
            executable: executable, folder: layout.redisFolder, port: try FreePort.any(),
            password: DevSecrets.randomText(using: &generator))
        try PrivateFile.write(Data(launch.configuration.utf8), to: launch.configurationPath)
        let server = try children.start(
            ChildCommand(name: "redis", arguments: launch.command, environment: environment),
            logPath: layout.logPath("redis"))
        try await waitUntil("Redis", server, limitMilliseconds: 15_000) { FreePort.isListening(launch.port) }
        return launch
    }

    private func startWorker(_ children: DevChildren, _ report: (String) -> Void) async throws -> String {
        report("Starting the reference worker")
        let worker = try children.start(
            ChildCommand(
                name: "worker", arguments: [executable, "worker", "--json", "--exit-with-stdin"],
                environment: environment),
            logPath: layout.logPath("worker"), readsOutput: true)
        try await waitUntil("The worker", worker, limitMilliseconds: 30_000) { worker.firstLine != nil }
        guard let line = worker.firstLine,
            let object = try? JSONDecoder().decode([String: String].self, from: Data(line.utf8)),
            let url = object["url"]
        else { throw CommandFailure("the worker did not say where it listens; see \(layout.logPath("worker"))") }
        return url
    }

    private func startServe(
        _ children: DevChildren, _ serveEnvironment: [String: String], port: Int, adminPort: Int,
        _ report: (String) -> Void
    ) async throws {
        report("Starting the gateway")
        let environment = environment.merging(serveEnvironment) { _, new in new }
        let server = try children.start(
            ChildCommand(
                name: "serve",
                arguments: [
                    executable, "serve", "--host", "127.0.0.1", "--port", "\(port)", "--admin-host", "127.0.0.1",
                    "--admin-port", "\(adminPort)", "--roles", "gateway,admin,jobs,dispatcher", "--exit-with-stdin",
                ], environment: environment),
            logPath: layout.logPath("serve"))
        try await waitUntil("The gateway", server, limitMilliseconds: 60_000) {
            guard await LocalHTTP.status(of: "http://127.0.0.1:\(port)/readyz") == 200 else { return false }
            return FreePort.isListening(adminPort)
        }
    }

    /// Asks until the answer is yes, the child ends, or the time is over.
    private func waitUntil(
        _ what: String, _ child: ChildProcess, limitMilliseconds: Int, _ isReady: () async throws -> Bool
    ) async throws {
        let log = layout.logPath(child.name)
        let clock = ContinuousClock()
        let limit = clock.now + .milliseconds(limitMilliseconds)
        while clock.now < limit {
            if !child.isRunning {
                throw CommandFailure(
                    "\(what) ended at once; the end of \(log) says:\n\(LogTail.read(log))", status: .unavailable)
            }
            if try await isReady() { return }
            try await Task.sleep(for: .milliseconds(25))
        }
        throw CommandFailure(
            "\(what) is not ready after \(limitMilliseconds / 1_000) s; the end of \(log) says:\n\(LogTail.read(log))",
            status: .unavailable)
    }
}
