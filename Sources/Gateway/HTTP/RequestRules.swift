internal import Domain
internal import NIOCore
internal import NIOHTTP1

/// What every request's head must satisfy before anything routes it. Pure; the guard handler applies it.
///
/// Closes what the parser and the framework leave open: `Host` rules (RFC 9112, section 3.2), transfer codings, methods, target forms and
/// sizes, unknown expectations.
struct RequestRules: Sendable {
    var maximumTargetBytes = 8_192

    func check(_ head: HTTPRequestHead) -> Refusal? {
        guard head.version == .http1_1 else {
            return Refusal(.httpVersionNotSupported, "Only HTTP/1.1 is served here. Send the request as HTTP/1.1.")
        }
        switch head.method {
        case .GET, .HEAD, .POST, .PUT, .PATCH, .DELETE, .OPTIONS: break
        default:
            var refusal = Refusal(
                .methodNotAllowed, "The method \(head.method.rawValue.prefix(32)) is not served here.")
            refusal.allowedMethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
            return refusal
        }
        let hosts = head.headers[canonicalForm: "host"]
        guard hosts.count == 1, let host = hosts.first, !host.isEmpty, isHost(host) else {
            return Refusal(.badRequest, "The request needs exactly one Host field with a host in it.")
        }
        if head.uri.utf8.count > maximumTargetBytes {
            return Refusal(
                .uriTooLong, "The request target is longer than \(maximumTargetBytes) bytes. Put data into the body.")
        }
        guard head.uri.utf8.first == UInt8(ascii: "/"),
            head.uri.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != 0x23 })
        else {
            return Refusal(.badRequest, "The request target must be a path that begins with a slash.")
        }
        let codings = head.headers[canonicalForm: "transfer-encoding"]
        if !codings.isEmpty {
            guard codings.count == 1, codings[0].lowercased() == "chunked" else {
                return Refusal(.badRequest, "The only transfer coding served is chunked, once.")
            }
            if head.headers.contains(name: "content-length") {
                return Refusal(.badRequest, "Content-Length and Transfer-Encoding cannot be sent together.")
            }
        }
        if let expectation = head.headers.first(name: "expect"), expectation.lowercased() != "100-continue" {
            return Refusal(.expectationFailed, "The only expectation served is 100-continue.")
        }
        return nil
    }

    private func isHost(_ host: Substring) -> Bool {
        host.utf8.count <= 255
            && host.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"),
                    UInt8(ascii: ":"),
                    UInt8(ascii: "["), UInt8(ascii: "]"):
                    true
                default: false
                }
            }
    }
}
