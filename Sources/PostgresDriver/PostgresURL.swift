/// Reads database URLs (PostgreSQL documentation, 34.1.1.2 "Connection URIs") into libpq's keywords.
///
/// libpq could read the URL itself; its error messages quote the URL, and with it the password.
enum PostgresURL {
    static func keywords(of url: String) throws(PostgresError) -> [String: String] {
        guard let mark = range(of: "://", in: url[...]) else {
            throw refusal("has no scheme; it must begin with postgresql://")
        }
        let scheme = url[..<mark.lowerBound].lowercased().prefix { $0 != "+" }
        guard scheme == "postgres" || scheme == "postgresql" else {
            throw refusal("has a scheme other than postgres or postgresql")
        }
        let (location, query) = split(url[mark.upperBound...], at: "?")
        let (authority, path) = split(location, at: "/")

        var keywords: [String: String] = [:]
        var hosts = authority
        if let at = authority.lastIndex(of: "@") {
            hosts = authority[authority.index(after: at)...]
            let (user, password) = split(authority[..<at], at: ":")
            try set("user", user, of: "user", in: &keywords)
            if let password { try set("password", password, of: "password", in: &keywords) }
        }
        try readHosts(hosts, into: &keywords)
        if let path { try set("dbname", path, of: "database name", in: &keywords) }
        if let query { try readQuery(query, into: &keywords) }
        return keywords
    }

    private static func readHosts(_ text: Substring, into keywords: inout [String: String]) throws(PostgresError) {
        guard !text.isEmpty else { return }
        var hosts: [String] = []
        var ports: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            var host = part
            var port: Substring?
            if part.hasPrefix("[") {
                guard let end = part.firstIndex(of: "]") else { throw refusal("has an unclosed bracket in the host") }
                host = part[part.index(after: part.startIndex)..<end]
                let rest = part[part.index(after: end)...]
                guard rest.isEmpty || rest.hasPrefix(":") else { throw refusal("has text after the bracketed host") }
                port = rest.isEmpty ? nil : rest.dropFirst()
            } else {
                (host, port) = split(part, at: ":")
            }
            hosts.append(try decoded(host, of: "host"))
            if let port, !port.isEmpty {
                guard let number = UInt16(port), number > 0 else {
                    throw refusal("has a port that is not between 1 and 65535")
                }
                ports.append("\(number)")
            } else {
                ports.append("")
            }
        }
        keywords["host"] = hosts.joined(separator: ",")
        if ports.contains(where: { !$0.isEmpty }) {
            keywords["port"] = ports.joined(separator: ",")
        }
    }

    private static func readQuery(_ text: Substring, into keywords: inout [String: String]) throws(PostgresError) {
        for part in text.split(separator: "&") {
            let (rawKey, rawValue) = split(part, at: "=")
            var key = try decoded(rawKey, of: "query")
            guard let rawValue, !key.isEmpty else { throw refusal("has a query parameter without a name or a value") }
            guard key.utf8.allSatisfy({ ($0 >= 97 && $0 <= 122) || $0 == UInt8(ascii: "_") }) else {
                throw refusal("has a query parameter with an impossible name")
            }
            var value = try decoded(rawValue, of: "query parameter \(key)")
            if key == "ssl" {
                key = "sslmode"
                value = value == "true" ? "require" : value == "false" ? "disable" : value
            }
            keywords[key] = value
        }
    }

    private static func set(
        _ key: String, _ text: Substring, of part: String, in keywords: inout [String: String]
    ) throws(PostgresError) {
        let value = try decoded(text, of: part)
        if !value.isEmpty { keywords[key] = value }
    }

    /// Percent-decoding (RFC 3986, 2.1). A plus sign stays one, as in libpq.
    private static func decoded(_ text: Substring, of part: String) throws(PostgresError) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexValue), let low = rest.popFirst().flatMap(hexValue) else {
                throw refusal("has a broken percent escape in the \(part)")
            }
            bytes.append(high << 4 | low)
        }
        guard !bytes.contains(0), let value = String(validating: bytes, as: UTF8.self) else {
            throw refusal("has bytes in the \(part) that are not text")
        }
        return value
    }

    private static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func split(_ text: Substring, at mark: Character) -> (Substring, Substring?) {
        guard let index = text.firstIndex(of: mark) else { return (text, nil) }
        return (text[..<index], text[text.index(after: index)...])
    }

    private static func range(of needle: String, in text: Substring) -> Range<Substring.Index>? {
        var start = text.startIndex
        while start < text.endIndex {
            if text[start...].hasPrefix(needle) {
                return start..<text.index(start, offsetBy: needle.count)
            }
            start = text.index(after: start)
        }
        return nil
    }

    private static func refusal(_ what: String) -> PostgresError {
        PostgresError(.configuration, "the database URL \(what)")
    }
}
