import Foundation
import Glibc

/// PostgreSQL's command lines.
struct PostgresLaunch: Sendable, Equatable {
    /// The number in the socket's name. Nothing listens on TCP.
    static let port = 5432
    /// The superuser of the private cluster and the owner of the database.
    static let role = "weir"
    static let database = "weir"

    /// The folder of `postgres`, `initdb` and the rest.
    let binaries: String
    let clusterFolder: String
    let socketFolder: String
    let user: PostgresUser
    /// Changes the user; needed where `user.mustDrop`.
    let setpriv: String

    /// Makes a cluster that trusts whoever reaches its socket and nobody else: the socket's folder is closed to other
    /// users.
    func initialize(into folder: String) -> [String] {
        asUser([
            "\(binaries)/initdb", "--pgdata=\(folder)", "--username=\(Self.role)", "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8", "--locale=C", "--no-instructions",
        ])
    }

    /// `fsync` stays on: what Weir promises about its ledger must hold here as well.
    func serve() -> [String] {
        asUser([
            "\(binaries)/postgres", "-D", clusterFolder, "-c", "listen_addresses=", "-c", "port=\(Self.port)",
            "-c", "unix_socket_directories=\(socketFolder)", "-c", "unix_socket_permissions=0700", "-c",
            "max_connections=300",
            "-c", "logging_collector=off", "-c", "log_destination=stderr", "-c", "cluster_name=weir-dev",
        ])
    }

    func isReady() -> [String] {
        asUser([
            "\(binaries)/pg_isready", "--quiet", "--host=\(socketFolder)", "--port=\(Self.port)", "--dbname=postgres",
        ])
    }

    func createDatabase() -> [String] {
        asUser([
            "\(binaries)/createdb", "--host=\(socketFolder)", "--port=\(Self.port)", "--username=\(Self.role)",
            "--no-password",
            "--maintenance-db=postgres", Self.database,
        ])
    }

    /// The URL with which this user, or root, reaches the database.
    var databaseURL: String {
        "postgresql:///\(Self.database)?host=\(PercentEncoding.component(socketFolder))&port=\(Self.port)&user=\(Self.role)"
    }

    /// The words with which a command runs as the unprivileged user.
    func asUser(_ command: [String]) -> [String] {
        guard user.mustDrop else { return command }
        return [setpriv, "--reuid=\(user.userID)", "--regid=\(user.groupID)", "--clear-groups", "--"] + command
    }
}

/// The server programs that this machine has.
struct PostgresBinaries: Sendable {
    /// Debian keeps one folder for each major version.
    static let debianFolder = "/usr/lib/postgresql"

    /// The folder with the server programs.
    /// - Parameters:
    ///   - requiredMajor: the version that an existing cluster was made with; `nil` takes the newest.
    ///   - available: folders with a major version's number as name, and the folders on the search path.
    static func choose(
        requiredMajor: Int?, versioned: [(major: Int, folder: String)], onPath: [(major: Int?, folder: String)]
    ) -> String? {
        if let requiredMajor {
            return versioned.first { $0.major == requiredMajor }?.folder
                ?? onPath.first { $0.major == requiredMajor }?.folder
        }
        return versioned.max { $0.major < $1.major }?.folder ?? onPath.first?.folder
    }

    /// Looks at this machine.
    static func find(requiredMajor: Int?) throws(CommandFailure) -> String {
        let files = FileManager.default
        func hasServer(_ folder: String) -> Bool {
            ["postgres", "initdb"].allSatisfy { files.isExecutableFile(atPath: "\(folder)/\($0)") }
        }
        let versions = (try? files.contentsOfDirectory(atPath: debianFolder)) ?? []
        let versioned = versions.compactMap { name in
            Int(name).map { (major: $0, folder: "\(debianFolder)/\(name)/bin") }
        }.filter { hasServer($0.folder) }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let onPath = path.split(separator: ":").map(String.init).filter(hasServer).map {
            (major: Int?.none, folder: $0)
        }
        if let found = choose(
            requiredMajor: requiredMajor, versioned: versioned, onPath: onPath.map { (requiredMajor, $0.folder) })
        {
            return found
        }
        if let requiredMajor, !versioned.isEmpty {
            throw CommandFailure(
                "the data folder was made with PostgreSQL \(requiredMajor), which is not installed: install postgresql-\(requiredMajor), "
                    + "or give another folder with --data-dir", status: .unavailable)
        }
        throw CommandFailure(
            "no PostgreSQL server is installed: `apt-get install postgresql` brings one", status: .unavailable)
    }

    /// The major version that a cluster's PG_VERSION names.
    static func major(ofClusterVersion text: String) -> Int? {
        Int(text.trimmingCharacters(in: .whitespacesAndNewlines).prefix { $0 != "." })
    }
}
