import Glibc

/// Keeps a second `weir dev` out of a data folder. The kernel gives the lock back however its holder ends.
struct DevLock: ~Copyable {
    private let descriptor: Int32

    init(path: String) throws(CommandFailure) {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw CommandFailure("cannot open \(path): \(String(cString: strerror(errno)))") }
        guard Self.take(descriptor) else {
            var buffer = [UInt8](repeating: 0, count: 32)
            let count = read(descriptor, &buffer, buffer.count)
            let holder = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).filter { $0.isNumber }
            close(descriptor)
            throw CommandFailure(
                "another `weir dev`\(holder.isEmpty ? "" : " (process \(holder))") uses this data folder: stop it, "
                    + "or give this one a folder of its own with --data-dir")
        }
        ftruncate(descriptor, 0)
        let text = Array("\(getpid())\n".utf8)
        _ = Glibc.write(descriptor, text, text.count)
    }

    /// Tries for half a second: a child that was forked and has not become its program yet still holds what its parent has given up.
    private static func take(_ descriptor: Int32) -> Bool {
        for _ in 0..<25 {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
            usleep(20_000)
        }
        return false
    }

    deinit { close(descriptor) }
}
