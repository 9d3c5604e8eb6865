import Foundation

/// Redis's configuration. It goes through a file that only its owner can read, because every user can read a command
/// line.
struct RedisLaunch: Sendable, Equatable {
    let executable: String
    let folder: String
    let port: Int
    let password: String

    var configurationPath: String { folder + "/redis.conf" }
    var command: [String] { [executable, configurationPath] }
    var url: String { "redis://:\(password)@127.0.0.1:\(port)/0" }

    /// Nothing is kept on disk: PostgreSQL is the only truth, and everything in Redis can be made again.
    var configuration: String {
        """
        bind 127.0.0.1
        port \(port)
        protected-mode yes
        requirepass \(password)
        daemonize no
        dir \(Self.quoted(folder))
        save ""
        appendonly no
        maxmemory 256mb
        maxmemory-policy volatile-lru

        """
    }

    /// A word in the double quotes of redis.conf.
    static func quoted(_ text: String) -> String {
        "\"" + text.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "\""
    }

    /// `redis-server` on the search path, or nothing.
    static func findExecutable(path: String = ProcessInfo.processInfo.environment["PATH"] ?? "") -> String? {
        Executables.find("redis-server", path: path)
    }
}

/// Programs of this machine.
enum Executables {
    static func find(_ name: String, path: String = ProcessInfo.processInfo.environment["PATH"] ?? "") -> String? {
        // A login without administrator's paths lacks the last two.
        (path.split(separator: ":").map(String.init) + ["/usr/bin", "/usr/sbin", "/sbin"]).map { "\($0)/\(name)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// The program that this process runs, so that its children are the same build.
    static func own() throws(CommandFailure) -> String {
        guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
            FileManager.default.isExecutableFile(atPath: path)
        else { throw CommandFailure("cannot find this program's own file: was it replaced while it ran?") }
        return path
    }
}
