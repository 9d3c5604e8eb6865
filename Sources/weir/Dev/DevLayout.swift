import Foundation
import Glibc

/// Where `weir dev` keeps what, inside its data folder.
struct DevLayout: Sendable, Equatable {
    /// The data folder, absolute.
    let root: String
    /// The folder of PostgreSQL's data and socket; usually inside ``root``.
    let postgresFolder: String

    /// The lock that keeps a second `weir dev` out.
    var lockPath: String { root + "/lock" }
    var secretsPath: String { root + "/secrets.json" }
    /// What is running, so that a successor can end what a killed `weir dev` left behind.
    var childrenPath: String { root + "/children.json" }
    var logsFolder: String { root + "/logs" }
    var redisFolder: String { root + "/redis" }
    var clusterFolder: String { postgresFolder + "/data" }
    /// Says that the database was created in the cluster.
    var databaseMarkerPath: String { postgresFolder + "/database-created" }

    func logPath(_ name: String) -> String { "\(logsFolder)/\(name).log" }

    /// - Parameters:
    ///   - root: absolute.
    ///   - exists: whether there is something at a path.
    ///   - mayReach: whether the user who runs PostgreSQL can reach a path.
    init(root: String, exists: (String) -> Bool, mayReach: (String) -> Bool) {
        self.root = root
        let inside = root + "/postgres"
        // PostgreSQL never runs as root, and a folder below /root is closed to everybody else: there the cluster needs
        // another place, found again by the folder's name. A cluster that is there already is used wherever it is, so
        // that a change of permissions does not look like lost data.
        let outside = Self.outsideFolder(root)
        if exists(inside + "/data") {
            postgresFolder = inside
        } else {
            postgresFolder = exists(outside + "/data") || !mayReach(root) ? outside : inside
        }
    }

    /// Where the cluster lies if it cannot lie in the data folder.
    static func outsideFolder(_ root: String) -> String { "/var/lib/weir-dev/" + shortHash(root) }

    /// Whether the cluster lies outside of the data folder, and so outlives it when somebody deletes that.
    var isClusterOutside: Bool { postgresFolder == Self.outsideFolder(root) }

    /// The folder of the Unix socket, or `nil` if a path in the data folder would be too long for one.
    ///
    /// A socket's address holds 107 bytes on Linux; libpq adds `/.s.PGSQL.5432` to the folder.
    var socketFolder: String? {
        let folder = postgresFolder + "/run"
        return "\(folder)/.s.PGSQL.\(PostgresLaunch.port)".utf8.count <= Self.socketPathLimit ? folder : nil
    }

    static let socketPathLimit = 100

    /// FNV-1a over the path, 16 hexadecimal digits: a name, not a secret.
    static func shortHash(_ text: String) -> String {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// The system user under whom PostgreSQL runs.
struct PostgresUser: Sendable, Equatable {
    let name: String
    let userID: UInt32
    let groupID: UInt32
    /// Whether this process has to change the user, because it is root.
    let mustDrop: Bool

    /// This user; for root, the owner of an existing cluster, else `postgres`, else `nobody`.
    static func choose(existingOwner: UInt32?) throws(CommandFailure) -> PostgresUser {
        let current = geteuid()
        guard current == 0 else {
            if let existingOwner, existingOwner != current {
                throw CommandFailure(
                    "the data folder's cluster belongs to the user with the id \(existingOwner), and PostgreSQL starts for its owner alone: "
                        + "run as that user or as root, or give another folder with --data-dir")
            }
            return PostgresUser(name: "", userID: current, groupID: getegid(), mustDrop: false)
        }
        if let existingOwner, existingOwner != 0, let entry = getpwuid(existingOwner) {
            return PostgresUser(entry.pointee)
        }
        for name in ["postgres", "nobody"] {
            if let entry = getpwnam(name) { return PostgresUser(entry.pointee) }
        }
        throw CommandFailure(
            "PostgreSQL does not run as root, and this machine has neither the user postgres nor nobody: run as another user"
        )
    }

    private init(_ entry: passwd) {
        self.init(name: String(cString: entry.pw_name), userID: entry.pw_uid, groupID: entry.pw_gid, mustDrop: true)
    }

    init(name: String, userID: UInt32, groupID: UInt32, mustDrop: Bool) {
        self.name = name
        self.userID = userID
        self.groupID = groupID
        self.mustDrop = mustDrop
    }

    /// Whether this user may pass through every folder of a path that exists already.
    func mayReach(_ path: String) -> Bool {
        guard mustDrop else { return true }
        var current = "/"
        for part in path.split(separator: "/") {
            current += current == "/" ? String(part) : "/" + part
            var status = stat()
            // What does not exist yet will be made by us, passable.
            guard stat(current, &status) == 0 else { return true }
            let shift: UInt32 = status.st_uid == userID ? 6 : status.st_gid == groupID ? 3 : 0
            guard status.st_mode >> shift & 1 == 1 else { return false }
        }
        return true
    }
}
