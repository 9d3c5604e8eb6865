import NIOCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A file with one line per executed inference, written before the answer leaves: a record of what was computed that
/// owes nothing to the gateway's own books, for tests that compare the two after a crash.
///
/// ```
/// {"request_id":"req_01","model":"iris","version":"1","input_tokens":4,"output_tokens":1}
/// ```
///
/// Each line is one `write` to a descriptor opened with `O_APPEND`, so lines of several event loops or processes do not
/// mix (POSIX.1-2017, write). It is not synced: it has to survive the death of a process, not of the machine. The write
/// blocks the event loop, which is the price of a line that stands before the answer; only tests set a path.
final class InferenceJournal: Sendable {
    private let descriptor: CInt

    init(path: String) throws(ReferenceWorkerError) {
        descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .journalUnavailable(path: path, errorNumber: errno) }
    }

    deinit {
        close(descriptor)
    }

    /// - Returns: whether the whole line was written. Half a line, on a full disk, counts as none.
    func append(requestID: String?, model: String, version: String, usage: TokenCount) -> Bool {
        var json = JSONWriter(capacity: 192)
        json.raw("{\"request_id\":")
        if let requestID { json.string(requestID) } else { json.raw("null") }
        json.raw(",\"model\":")
        json.string(model)
        json.raw(",\"version\":")
        json.string(version)
        json.raw(",\"input_tokens\":")
        json.integer(usage.input)
        json.raw(",\"output_tokens\":")
        json.integer(usage.output)
        json.raw("}\n")
        return json.buffer.withUnsafeReadableBytes { bytes in
            while true {
                let written = write(descriptor, bytes.baseAddress, bytes.count)
                if written < 0, errno == EINTR { continue }
                return written == bytes.count
            }
        }
    }
}
