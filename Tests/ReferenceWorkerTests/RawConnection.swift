import Dispatch
import Foundation

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A plain blocking socket, for what no proper client sends. Each method runs on a thread of its own, off the
/// cooperative pool.
final class RawConnection: Sendable {
    enum Failure: Error { case socket(Int32), ended(String) }

    struct Response {
        let status: Int
        let head: String
        let body: String
    }

    private let descriptor: Int32

    init(port: Int) throws {
        #if canImport(Glibc)
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
            descriptor = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        // A bound for a test that would otherwise hang; none waits for it to pass.
        var timeout = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        let descriptor = descriptor
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw Failure.socket(errno) }
    }

    deinit {
        close(descriptor)
    }

    func write(_ text: String) async throws {
        try await blocking { descriptor in
            var rest = Array(text.utf8)[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { throw Failure.socket(errno) }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// One response whose body has the length that its head declares.
    func response() async throws -> Response {
        try await blocking { descriptor in
            var head = ""
            while !head.hasSuffix("\r\n\r\n") { head += try Self.read(descriptor, exactly: 1) }
            let lines = head.split(separator: "\r\n")
            let status = Int(lines[0].split(separator: " ")[1]) ?? 0
            let length =
                lines.compactMap { line -> Int? in
                    let parts = line.split(separator: ":", maxSplits: 1)
                    guard parts.count == 2, parts[0].lowercased() == "content-length" else { return nil }
                    return Int(parts[1].trimmingCharacters(in: .whitespaces))
                }.first ?? 0
            return Response(status: status, head: head, body: try Self.read(descriptor, exactly: length))
        }
    }

    /// So many bytes, unseen.
    func skip(_ byteCount: Int) async throws {
        try await blocking { descriptor in _ = try Self.read(descriptor, exactly: byteCount) }
    }

    /// All that comes until the other side closes.
    func rest() async throws -> String {
        try await blocking { descriptor in
            var bytes: [UInt8] = []
            while let chunk = try Self.chunk(descriptor, upTo: 65_536) { bytes += chunk }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    private static func read(_ descriptor: Int32, exactly count: Int) throws -> String {
        var bytes: [UInt8] = []
        while bytes.count < count {
            guard let chunk = try chunk(descriptor, upTo: count - bytes.count) else {
                throw Failure.ended(String(decoding: bytes, as: UTF8.self))
            }
            bytes += chunk
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// `nil` at the end of the stream.
    private static func chunk(_ descriptor: Int32, upTo limit: Int) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = recv(descriptor, &bytes, limit, 0)
        guard count >= 0 else { throw Failure.socket(errno) }
        return count == 0 ? nil : Array(bytes[..<count])
    }

    private func blocking<Value: Sendable>(_ body: @escaping @Sendable (Int32) throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async {
                continuation.resume(with: Result { try body(self.descriptor) })
            }
        }
    }
}
