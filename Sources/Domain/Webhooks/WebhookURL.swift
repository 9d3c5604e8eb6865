/// A webhook's address, taken apart once. Only what has one reading is accepted, because whoever checks it and whoever connects to it must not
/// read it differently (RFC 3986, without its allowances).
public struct WebhookURL: Hashable, Sendable {
    /// Why a text is none, in words for the customer.
    public enum Problem: Error, Equatable, Sendable {
        /// It could not be a web address at all.
        case malformed(String)
        /// It is one to which nothing is ever sent.
        case forbidden(String)
    }

    /// The longest that is accepted, in bytes.
    public static let byteLimit = 2_048

    public let usesTLS: Bool
    /// A name in lower case, or an IP address; an IPv6 address without its brackets.
    public let host: String
    public let port: Int
    /// Path and query, from the slash on.
    public let target: String
    /// As it was given.
    public let text: String

    /// What stands in the header field `Host`.
    public var authority: String {
        let name = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host
        return port == (usesTLS ? 443 : 80) ? name : "\(name):\(port)"
    }

    /// Ports that are never meant and would reach something else than a web server: those below 1024 but 80 and 443, and those of mail,
    /// databases and the like above it.
    public static func isForbidden(port: Int) -> Bool {
        port < 1_024 && port != 80 && port != 443 || otherServices.contains(port)
    }

    private static let otherServices: Set<Int> = [
        1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432, 5984, 6000, 6379,
        6443, 6566, 6665, 6666,
        6667, 6668, 6669, 6697, 9042, 9092, 9200, 10_080, 10_250, 11_211, 27_017,
    ]

    public init(_ text: String) throws(Problem) {
        let bytes = Array(text.utf8)
        guard (1...Self.byteLimit).contains(bytes.count) else {
            throw .malformed("must have 1 to \(Self.byteLimit) bytes")
        }
        guard bytes.allSatisfy(Self.isURLByte) else {
            throw .malformed(
                "must be ASCII without blanks, quotes, backslashes and brackets; other characters are percent-encoded")
        }
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else { throw .malformed("must begin with https://") }
        switch String(decoding: bytes[..<colon], as: UTF8.self).lowercased() {
        case "https": usesTLS = true
        case "http": usesTLS = false
        default: throw .forbidden("must begin with https://")
        }
        let rest = bytes[(colon + 1)...]
        guard rest.starts(with: [UInt8(ascii: "/"), UInt8(ascii: "/")]) else {
            throw .malformed("must begin with https:// and a host")
        }
        guard !bytes.contains(UInt8(ascii: "#")) else { throw .malformed("must have no fragment (#)") }
        let authority = rest.dropFirst(2).prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        guard !authority.contains(UInt8(ascii: "@")) else {
            throw .forbidden("must have no user name or password; the signature says who sends")
        }
        let behind = bytes[authority.endIndex...]
        let path = String(decoding: behind, as: UTF8.self)
        target = behind.first == UInt8(ascii: "/") ? path : "/" + path
        (host, port) = try Self.place(authority, standardPort: usesTLS ? 443 : 80)
        guard !Self.isForbidden(port: port) else { throw .forbidden("names port \(port), where no webhook is sent") }
        self.text = text
    }

    private static func place(_ authority: ArraySlice<UInt8>, standardPort: Int) throws(Problem) -> (String, Int) {
        var host = authority
        var port = authority[authority.endIndex...]
        if authority.first == UInt8(ascii: "[") {
            guard let end = authority.firstIndex(of: UInt8(ascii: "]")) else {
                throw .malformed("has a bracket that is not closed")
            }
            host = authority[(authority.startIndex + 1)..<end]
            port = authority[(end + 1)...]
            guard host.contains(UInt8(ascii: ":")) else { throw .malformed("has no IPv6 address in its brackets") }
        } else if let colon = authority.firstIndex(of: UInt8(ascii: ":")) {
            host = authority[..<colon]
            port = authority[colon...]
            try checkName(host)
        } else {
            try checkName(host)
        }
        let name = String(decoding: host, as: UTF8.self).lowercased()
        guard let first = port.first else { return (name, standardPort) }
        let digits = port.dropFirst()
        guard first == UInt8(ascii: ":"), (1...5).contains(digits.count),
            digits.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(String(decoding: digits, as: UTF8.self)), (1...65_535).contains(number)
        else { throw .malformed("must have a port from 1 to 65535, or none") }
        return (name, number)
    }

    /// A name of letters, digits and hyphens, or four decimal numbers. Whatever else ends in a number would be read as an address by some
    /// resolver and as a name by another.
    private static func checkName(_ host: ArraySlice<UInt8>) throws(Problem) {
        guard (1...253).contains(host.count) else { throw .malformed("must have a host") }
        let labels = host.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard let last = labels.last, !last.isEmpty else { throw .forbidden("has a host that ends in a dot") }
        for label in labels {
            guard (1...63).contains(label.count),
                label.allSatisfy({
                    (0x30...0x39).contains($0) || (0x61...0x7A).contains($0 | 0x20) || $0 == UInt8(ascii: "-")
                        || $0 == UInt8(ascii: "_")
                })
            else { throw .malformed("must have a host of letters, digits, dots and hyphens") }
        }
        let isNumber = last.allSatisfy { (0x30...0x39).contains($0) }
        let isHexadecimal = last.starts(with: [0x30, 0x78]) || last.starts(with: [0x30, 0x58])
        guard isNumber || isHexadecimal else { return }
        let isPlain =
            labels.count == 4
            && labels.allSatisfy { label in
                guard label.count <= 3, label.allSatisfy({ (0x30...0x39).contains($0) }),
                    label.count == 1 || label.first != 0x30
                else { return false }
                return (Int(String(decoding: label, as: UTF8.self)) ?? 256) <= 255
            }
        guard isPlain else { throw .forbidden("has a host that is an IP address in an unusual notation") }
    }

    private static func isURLByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x21, 0x23...0x3B, 0x3D, 0x3F...0x5B, 0x5D, 0x5F, 0x61...0x7A, 0x7E: true
        default: false
        }
    }
}
