import Foundation
import Glibc

/// Stops this process when its standard input ends.
///
/// A supervisor that dies without a word closes the pipe: its children stop by themselves instead of staying behind.
enum StandardInputWatch {
    static func stopProcessAtEnd() {
        Thread.detachNewThread {
            var buffer = [UInt8](repeating: 0, count: 256)
            while true {
                let count = read(STDIN_FILENO, &buffer, buffer.count)
                if count > 0 || count < 0 && errno == EINTR { continue }
                break
            }
            // The same way out as for everybody else who stops this process.
            kill(getpid(), SIGTERM)
        }
    }
}
