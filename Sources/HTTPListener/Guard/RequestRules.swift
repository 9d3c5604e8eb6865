public import Domain
internal import NIOCore
public import NIOHTTP1

/// What every request's head must satisfy before anything routes it. Pure; the guard handler applies it.
///
/// Closes what the parser and the framework leave open: `Host` rules (RFC 9112, section 3.2), transfer codings, methods, target forms,
/// sizes that are declared, unknown expectations.
public struct RequestRules: Sendable {
    var maximumTargetBytes = 8_192
    /// The longest body that may be declared.
    var maximumBodyBytes: Int

    /// - Parameter maximumBodyBytes: left out where the limit is for those to apply who know the route.
    public init(maximumBodyBytes: Int = .max) { self.maximumBodyBytes = maximumBodyBytes }

    public func check(_ head: HTTPRequestHead, _ fields: RequestFields) -> Refusal? {
        guard head.version == .http1_1 else {
            return Self.unservedVersion
        }
        switch head.method {
        case .GET, .HEAD, .POST, .PUT, .PATCH, .DELETE, .OPTIONS: break
        default: return Self.unservedMethod
        }
        guard fields.hostCount == 1, let host = fields.host, isHost(host) else {
            return Refusal(.badRequest, "The request needs exactly one Host field with a host in it.")
        }
        if head.uri.utf8.count > maximumTargetBytes {
            return Self.targetTooLong(maximumTargetBytes)
        }
        guard head.uri.utf8.first == UInt8(ascii: "/"),
            head.uri.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != 0x23 })
        else {
            return Refusal(.badRequest, "The request target must be a path that begins with a slash.")
        }
        if let coding = fields.transferEncoding {
            guard fields.transferEncodingCount == 1, coding.lowercased() == "chunked" else {
                return Refusal(.badRequest, "The only transfer coding served is chunked, once.")
            }
            if fields.contentLength != nil {
                return Refusal(.badRequest, "Content-Length and Transfer-Encoding cannot be sent together.")
            }
        }
        if let length = fields.contentLength.flatMap({ Int($0) }), length > maximumBodyBytes {
            return .tooLarge(maximumBodyBytes)
        }
        if let expectation = fields.expect, expectation.lowercased() != "100-continue" {
            return Refusal(.expectationFailed, "The only expectation served is 100-continue.")
        }
        return nil
    }

    static var unservedVersion: Refusal {
        Refusal(.httpVersionNotSupported, "Only HTTP/1.1 is served here. Send the request as HTTP/1.1.")
    }

    static func targetTooLong(_ limit: Int) -> Refusal {
        Refusal(.uriTooLong, "The request target is longer than \(limit) bytes. Put data into the body.")
    }

    /// A method that no route has. The answer to a known route with another method names what that route has.
    static var unservedMethod: Refusal {
        var refusal = Refusal(.methodNotAllowed, "This method is not served here. See the field Allow.")
        refusal.allowedMethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        return refusal
    }

    /// Fields behind a chunked body. They are not used here; those that would change how the request is read or whose it is are refused
    /// (RFC 9110, section 6.5.1).
    public func check(trailers: HTTPHeaders) -> Refusal? {
        let forbidden = [
            "authorization", "api-key", "x-api-key", "host", "content-length", "transfer-encoding", "content-type",
            "content-encoding", "te",
            "trailer", "connection", "expect", "cookie", "idempotency-key",
        ]
        var size = 0
        for (name, value) in trailers {
            size += name.utf8.count + value.utf8.count
            if size > 8_192 {
                return Refusal(.headersTooLarge, "The fields behind the body are longer than 8,192 bytes. Send none.")
            }
            if forbidden.contains(name.lowercased()) {
                return Refusal(
                    .badRequest, "The field \(name.lowercased()) belongs into the head, not behind the body.")
            }
        }
        return nil
    }

    private func isHost(_ host: String) -> Bool {
        var host = host
        return host.withUTF8 { Self.isHost(UnsafeRawBufferPointer($0)[...]) }
    }

    /// `host`, `host:port` or `[v6]:port` with a port that can be one.
    public static func isHost(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        guard bytes.count <= 255 else { return false }
        let isBracketed = bytes.first == UInt8(ascii: "[")
        let nameEnd =
            isBracketed
            ? bytes.firstIndex(of: UInt8(ascii: "]")).map { $0 + 1 } : bytes.firstIndex(of: UInt8(ascii: ":"))
        guard nameEnd != nil || !isBracketed else { return false }
        let name = bytes[..<(nameEnd ?? bytes.endIndex)]
        return isPort(bytes[name.endIndex...])
            && (isBracketed ? isAddress(name.dropFirst().dropLast()) : isName(name))
    }

    /// Nothing, or a colon and at most 65535.
    private static func isPort(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        guard let colon = bytes.first else { return true }
        guard colon == UInt8(ascii: ":"), bytes.count <= 6 else { return false }
        var port = 0
        for byte in bytes.dropFirst() {
            guard (0x30...0x39).contains(byte) else { return false }
            port = port * 10 + Int(byte - 0x30)
        }
        return port <= 65_535
    }

    private static func isAddress(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        !bytes.isEmpty
            && bytes.allSatisfy { byte in
                switch byte {
                case 0x30...0x3A, 0x41...0x46, 0x61...0x66, UInt8(ascii: "."): true
                default: false
                }
            }
    }

    private static func isName(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        !bytes.isEmpty
            && bytes.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }
}
