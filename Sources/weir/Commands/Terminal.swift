import Foundation
import Glibc

/// Writes to the person at the terminal: results to standard output, everything else to standard error.
enum Terminal {
    static func say(_ line: String) { write(Array((line + "\n").utf8), to: STDOUT_FILENO) }
    static func complain(_ line: String) { write(Array((line + "\n").utf8), to: STDERR_FILENO) }

    /// A document: to the last byte as it came where a file or a program takes it, and made harmless line by line for a screen.
    /// - Throws: ``CommandFailure`` where not all of it could be written: what is on the disk would look whole.
    static func pour(_ document: Data) throws(CommandFailure) {
        guard isatty(STDOUT_FILENO) == 1 else {
            guard write(Array(document), to: STDOUT_FILENO) else {
                throw CommandFailure("not all could be written: \(String(cString: strerror(errno)))")
            }
            return
        }
        for line in String(decoding: document, as: UTF8.self).split(whereSeparator: \.isNewline) {
            say(SafeText.line(String(line)))
        }
    }

    /// Unbuffered, so that a line is there before the process waits or is killed.
    @discardableResult
    private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            offset += count
        }
        return true
    }
}
