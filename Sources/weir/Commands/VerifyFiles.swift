import Domain
import Foundation
import LedgerProof
import NIOCore

/// A file that is written piece by piece.
struct OutputFile {
    private let handle: FileHandle
    private let path: String?

    static let standardOutput = OutputFile(handle: .standardOutput)

    private init(handle: FileHandle) {
        self.handle = handle
        path = nil
    }

    init(path: String) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let handle = FileHandle(forWritingAtPath: path)
        else { throw CommandFailure("\(path) cannot be written") }
        self.handle = handle
        self.path = path
    }

    func write(_ bytes: ByteBuffer) throws {
        do {
            try handle.write(contentsOf: Data(bytes.readableBytesView))
        } catch {
            throw CommandFailure("\(path ?? "standard output") cannot be written")
        }
    }

    func close() throws { if path != nil { try handle.close() } }
}

/// Reads the lines of a file of any length with one piece of it in memory.
struct LineFile {
    private let handle: FileHandle
    private let path: String
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false

    /// Longer than any line of an export: an entry of the audit log has the documents of before and after.
    static let lineLimit = 16_777_216
    private static let pieceBytes = 262_144

    init(path: String) throws(CommandFailure) {
        guard let handle = path == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: path) else {
            throw CommandFailure("\(path) cannot be read", status: .untried)
        }
        self.handle = handle
        self.path = path
    }

    /// The next line without its end; `nil` behind the last one.
    mutating func next() throws(CommandFailure) -> [UInt8]? {
        var searched = start
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                let line = Array(buffer[start..<end])
                start = end + 1
                return line
            }
            searched = buffer.count
            guard !isAtEnd else {
                guard start < buffer.count else { return nil }
                let line = Array(buffer[start...])
                start = buffer.count
                return line
            }
            guard buffer.count - start <= Self.lineLimit else {
                throw CommandFailure("\(path) has a line of more than \(Self.lineLimit) bytes")
            }
            try readMore()
            searched = max(0, searched - start)
            buffer.removeFirst(start)
            start = 0
        }
    }

    private mutating func readMore() throws(CommandFailure) {
        let piece: Data?
        do {
            piece = try handle.read(upToCount: Self.pieceBytes)
        } catch {
            throw CommandFailure("\(path) cannot be read", status: .untried)
        }
        if let piece, !piece.isEmpty { buffer.append(contentsOf: piece) } else { isAtEnd = true }
    }

    /// A whole file of moderate size.
    static func whole(_ path: String) throws(CommandFailure) -> [UInt8] {
        guard let handle = path == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: path),
            let data = try? handle.read(upToCount: lineLimit + 1)
        else { throw CommandFailure("\(path) cannot be read", status: .untried) }
        guard data.count <= lineLimit else {
            throw CommandFailure("\(path) is larger than \(lineLimit) bytes", status: .untried)
        }
        return Array(data)
    }
}

extension KeySet {
    /// - Throws: where the file is no list of keys; nothing can be said then.
    static func file(_ path: String) throws(CommandFailure) -> KeySet {
        let bytes = try LineFile.whole(path)
        do throws(ProofFailure) {
            return try KeySet(json: bytes)
        } catch {
            throw CommandFailure(
                "\(path) is no list of keys (\(error.reason)): take it from /.well-known/weir-keys", status: .untried)
        }
    }
}
