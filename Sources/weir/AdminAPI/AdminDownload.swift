import AsyncHTTPClient
import Crypto
import Foundation
import NIOCore

/// What was written to a file.
struct AdminDownload: Sendable {
    let bytes: Int64
    /// Hexadecimal.
    let sha256: String
}

extension AdminClient {
    /// Writes an answer to a file as it comes. A file that is not whole does not stay.
    func download(_ call: AdminRequest, to path: String) async throws -> AdminDownload {
        let response = try await open(call)
        let part = path + ".part"
        guard FileManager.default.createFile(atPath: part, contents: nil), let file = FileHandle(forWritingAtPath: part)
        else {
            throw CommandFailure("cannot write \(part)")
        }
        var hash = SHA256()
        var bytes: Int64 = 0
        do {
            for try await chunk in response.body {
                let data = Data(chunk.readableBytesView)
                hash.update(data: data)
                bytes += Int64(data.count)
                try file.write(contentsOf: data)
            }
            try file.close()
        } catch {
            try? FileManager.default.removeItem(atPath: part)
            throw CommandFailure(
                "the answer broke off after \(bytes) bytes; nothing was kept of it", status: .unavailable)
        }
        try? FileManager.default.removeItem(atPath: path)
        try FileManager.default.moveItem(atPath: part, toPath: path)
        return AdminDownload(bytes: bytes, sha256: hash.finalize().map { String(format: "%02x", $0) }.joined())
    }
}
