import Dispatch
import Glibc
import Synchronization

/// Writes lines to a file descriptor, off the caller's thread.
///
/// A log that is full, slow or gone must not slow a request down. Lines wait in a bounded buffer; what does not fit is
/// dropped and counted, and the count is written as soon as there is room again.
final class LogSink: Sendable {
    /// Bytes that may wait.
    static let bufferLimit = 1_048_576

    private struct Waiting {
        var bytes: [UInt8] = []
        var droppedLines = 0
        var isDraining = false
    }

    private let waiting = Mutex(Waiting())
    /// A queue of Dispatch's, because `write` blocks where the reader of the log does, and a thread of the cooperative pool must not.
    private let queue = DispatchQueue(label: "weir.log")
    private let write: @Sendable ([UInt8]) -> Void

    /// - Parameter write: writes a chunk of whole lines; it may block.
    init(write: @escaping @Sendable ([UInt8]) -> Void) {
        self.write = write
    }

    /// The sink of standard error.
    static let standardError = LogSink { writeAll($0, to: STDERR_FILENO) }

    /// Takes one line that ends with a line feed. Returns at once.
    func append(_ line: [UInt8]) {
        let mustSchedule = waiting.withLock { state -> Bool in
            guard state.bytes.count + line.count <= Self.bufferLimit else {
                state.droppedLines += 1
                return false
            }
            state.bytes += line
            guard !state.isDraining else { return false }
            state.isDraining = true
            return true
        }
        if mustSchedule { queue.async { self.drain() } }
    }

    /// Waits until everything that was appended is written; called where the process ends.
    func flush() {
        queue.sync { drain() }
    }

    private func drain() {
        while true {
            let (chunk, dropped) = waiting.withLock { state -> ([UInt8], Int) in
                defer {
                    state.bytes = []
                    state.droppedLines = 0
                }
                if state.bytes.isEmpty { state.isDraining = false }
                return (state.bytes, state.droppedLines)
            }
            if chunk.isEmpty { return }
            write(chunk)
            if dropped > 0 {
                write(
                    Array(#"{"level":"warning","message":"log lines were dropped","lines":\#(dropped)}"#.utf8) + [0x0A])
            }
        }
    }
}

/// Writes everything or gives up at an error that does not pass.
private func writeAll(_ bytes: [UInt8], to descriptor: Int32) {
    bytes.withUnsafeBytes { buffer in
        guard let start = buffer.baseAddress else { return }
        var offset = 0
        while offset < buffer.count {
            let count = Glibc.write(descriptor, start + offset, buffer.count - offset)
            if count > 0 {
                offset += count
            } else if errno == EAGAIN {
                var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&entry, 1, 1_000)
            } else if errno != EINTR {
                return
            }
        }
    }
}
