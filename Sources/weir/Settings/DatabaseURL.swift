import Foundation

/// A PostgreSQL URL in the form that libpq reads.
///
/// SQLAlchemy writes `postgresql+asyncpg://` and options that only its drivers know. The driver's name is dropped,
/// `ssl` becomes libpq's `sslmode`, and the drivers' own options are left out, because libpq refuses a URL with an
/// option that it does not know.
struct DatabaseURL: Sendable, Equatable {
    /// The URL for libpq. Secret: it carries the password.
    let text: String

    private static let schemes: Set<String> = ["postgresql", "postgres"]
    private static let driverOptions: Set<String> = [
        "async_fallback", "command_timeout", "prepared_statement_cache_size", "prepared_statement_name_func",
        "statement_cache_size",
    ]

    init?(_ text: String) {
        guard let end = text.range(of: "://") else { return nil }
        let scheme = text[..<end.lowerBound].lowercased().split(
            separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = scheme.first, Self.schemes.contains(String(name)), scheme.count == 1 || !scheme[1].isEmpty
        else { return nil }
        let rest = text[end.upperBound...]
        guard !rest.isEmpty, rest.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }), Self.isPercentEncodingSound(rest) else {
            return nil
        }
        let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard Self.areHostsSound(parts[0]) else { return nil }
        var url = "postgresql://" + parts[0]
        if parts.count == 2 {
            let kept = parts[1].split(separator: "&").compactMap(Self.libpqOption)
            if !kept.isEmpty { url += "?" + kept.joined(separator: "&") }
        }
        self.text = url
    }

    private static func libpqOption(_ option: Substring) -> String? {
        let name = option.prefix { $0 != "=" }
        if driverOptions.contains(String(name)) { return nil }
        guard name == "ssl" else { return String(option) }
        let value = option.dropFirst(name.count + 1)
        return "sslmode=" + (value == "true" ? "require" : value == "false" ? "disable" : String(value))
    }

    private static func isPercentEncodingSound(_ text: Substring) -> Bool {
        let bytes = Array(text.utf8)
        return bytes.indices.allSatisfy { index in
            guard bytes[index] == UInt8(ascii: "%") else { return true }
            return index + 2 < bytes.count && isHexadecimal(bytes[index + 1]) && isHexadecimal(bytes[index + 2])
        }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    /// Several hosts may stand there, separated by commas; each port must be one.
    private static func areHostsSound(_ part: Substring) -> Bool {
        let authority = part.prefix { $0 != "/" }
        let hosts = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority
        return hosts.split(separator: ",").allSatisfy { host in
            let behindBracket = host.lastIndex(of: "]").map { host[$0...] } ?? host
            guard let colon = behindBracket.lastIndex(of: ":") else { return true }
            let port = behindBracket[behindBracket.index(after: colon)...]
            return port.isEmpty || (Int(port).map { (1...65_535).contains($0) } ?? false)
        }
    }
}
