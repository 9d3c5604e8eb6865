import Foundation
import Glibc

/// A plain blocking socket, for what no proper client sends. Each method runs on a thread of its own, off the
/// cooperative pool.
public final class RawConnection: Sendable {
    public enum Failure: Error { case socket(Int32), ended(String) }

    public struct Response: Sendable {
        public let status: Int
        public let head: String
        public let body: String

        public func field(_ name: String) -> String? {
            for line in head.split(separator: "\r\n") {
                let parts = line.split(separator: ":", maxSplits: 1)
                if parts.count == 2, parts[0].lowercased() == name.lowercased() {
                    return parts[1].trimmingCharacters(in: .whitespaces)
                }
            }
            return nil
        }

        /// The stable code of a problem.
        public var code: String? { field("x-weir-error") }
    }

    private let descriptor: Int32

    public init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
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

    deinit { close(descriptor) }

    public func write(_ text: String) async throws {
        try await blocking { descriptor in
            var rest = Array(text.utf8)[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { throw Failure.socket(errno) }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// One response: its head, and a body of the length that the head declares.
    /// - Parameter hasBody: false for the answer to HEAD, which declares a length and sends none.
    public func response(hasBody: Bool = true) async throws -> Response {
        try await blocking { descriptor in
            var head = ""
            while !head.hasSuffix("\r\n\r\n") { head += try Self.read(descriptor, exactly: 1) }
            let status = Int(head.split(separator: " ", maxSplits: 2).dropFirst().first ?? "") ?? 0
            let bare = Response(status: status, head: head, body: "")
            guard hasBody, let length = bare.field("content-length").flatMap({ Int($0) }), length > 0 else {
                return bare
            }
            return Response(status: status, head: head, body: try Self.read(descriptor, exactly: length))
        }
    }

    /// So many bytes, unseen.
    public func skip(_ byteCount: Int) async throws {
        try await blocking { descriptor in _ = try Self.read(descriptor, exactly: byteCount) }
    }

    /// All that comes until the other side closes.
    /// - Parameter mayReset: whether a reset counts as closing.
    public func rest(mayReset: Bool = true) async throws -> String {
        try await blocking { descriptor in
            var bytes: [UInt8] = []
            while true {
                do {
                    guard let chunk = try Self.chunk(descriptor, upTo: 65_536) else { break }
                    bytes += chunk
                } catch Failure.socket(ECONNRESET) where mayReset {
                    break
                }
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    /// Says that nothing more will be sent.
    public func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

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
            // Not a queue's thread: of those there are few, and tests that run at once would wait for each other.
            Thread.detachNewThread { continuation.resume(with: Result { try body(self.descriptor) }) }
        }
    }
}
