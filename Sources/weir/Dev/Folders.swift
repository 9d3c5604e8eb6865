import Foundation
import Glibc

/// Folders with an owner and a mode.
enum Folders {
    /// Makes a folder where there is none; what exists stays as it is.
    static func make(_ path: String, mode: mode_t, owner: PostgresUser? = nil) throws(CommandFailure) {
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else { throw CommandFailure("\(path) exists and is not a folder") }
            return
        }
        let parent = (path as NSString).deletingLastPathComponent
        if parent != path, stat(parent, &status) != 0 { try make(parent, mode: 0o755) }
        guard mkdir(path, mode) == 0 || errno == EEXIST else {
            throw CommandFailure("cannot make the folder \(path): \(String(cString: strerror(errno)))")
        }
        // The process's mask may have taken bits away.
        chmod(path, mode)
        if let owner, owner.mustDrop, chown(path, owner.userID, owner.groupID) != 0 {
            throw CommandFailure("cannot give \(path) to \(owner.name): \(String(cString: strerror(errno)))")
        }
    }

    /// In a folder that everybody can write to, somebody else may have made ours first.
    static func requirePrivate(_ path: String, owner: PostgresUser) throws(CommandFailure) {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, status.st_uid == owner.userID,
            status.st_mode & 0o077 == 0
        else {
            throw CommandFailure(
                "\(path) is not a private folder of PostgreSQL's user: remove it, or use a data folder with a shorter path"
            )
        }
    }
}

/// Keeps logs from growing for ever: one older copy, at 8 MiB.
enum LogRotation {
    static let limitBytes = 8_388_608

    static func rotate(_ path: String) {
        var status = stat()
        if stat(path, &status) == 0, Int(status.st_size) > limitBytes { rename(path, path + ".1") }
    }
}
