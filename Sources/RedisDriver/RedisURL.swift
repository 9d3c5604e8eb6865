extension RedisConfiguration {
    /// Reads `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, or
    /// `unix://[user:password@]/path/to/socket[?db=number]`.
    ///
    /// User and password are percent-decoded; an empty user means the default one. Query parameters: `db` the database,
    /// `client_name`, and with `rediss` `ca_file`, a PEM file of the authorities to trust. Anything else is refused, so
    /// that a misspelt setting does not go unnoticed.
    ///
    /// Source: IANA registrations of the schemes `redis` and `rediss`.
    /// - Throws: `.invalidConfiguration`; the text never contains a part of the URL, which may hold a password.
    public init(url: String) throws(RedisError) {
        guard let separator = Self.range(of: "://", in: url) else {
            throw .invalidConfiguration("the URL has no scheme")
        }
        let scheme = url[..<separator.lowerBound].lowercased()
        guard ["redis", "rediss", "unix"].contains(scheme) else {
            throw .invalidConfiguration("the scheme is not redis, rediss or unix")
        }
        var rest = url[separator.upperBound...]
        guard !rest.contains("#") else { throw .invalidConfiguration("the URL has a fragment") }
        var query: Substring?
        if let mark = rest.firstIndex(of: "?") {
            query = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
        }
        let pathStart = rest.firstIndex(of: "/") ?? rest.endIndex
        var authority = rest[..<pathStart]
        let path = rest[pathStart...]
        var credentials: RedisCredentials?
        if let at = authority.lastIndex(of: "@") {
            credentials = try Self.credentials(of: authority[..<at])
            authority = authority[authority.index(after: at)...]
        }
        if scheme == "unix" {
            guard authority.isEmpty else { throw .invalidConfiguration("a unix URL has a host") }
            self.init(address: .unixSocket(path: try Self.decoded(path)), credentials: credentials)
        } else {
            let (host, port) = try Self.hostAndPort(of: authority)
            self.init(
                address: .host(host, port: port), transport: scheme == "rediss" ? .tls(authorityFile: nil) : .plain,
                credentials: credentials, database: try Self.database(ofPath: path))
        }
        if let query { try apply(query: query) }
        try validate()
    }

    private mutating func apply(query: Substring) throws(RedisError) {
        for item in query.split(separator: "&", omittingEmptySubsequences: false) {
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let name = parts.first, let text = parts.last else {
                throw .invalidConfiguration("a query parameter has no value")
            }
            let value = try Self.decoded(text)
            switch (name, transport) {
            case ("db", _): database = try Self.number(value[...], "the database")
            case ("client_name", _): clientName = value
            case ("ca_file", .tls): transport = .tls(authorityFile: value)
            default: throw .invalidConfiguration("the URL has an unknown query parameter")
            }
        }
    }

    private static func credentials(of userInfo: Substring) throws(RedisError) -> RedisCredentials {
        // Without a colon it would be unclear whether the one word is a user or a password.
        guard let colon = userInfo.firstIndex(of: ":") else {
            throw .invalidConfiguration("the URL has a user without a password")
        }
        let user = try decoded(userInfo[..<colon])
        let password = try decoded(userInfo[userInfo.index(after: colon)...])
        guard !password.isEmpty else { throw .invalidConfiguration("the password is empty") }
        return RedisCredentials(user: user.isEmpty ? nil : user, password: password)
    }

    private static func hostAndPort(of authority: Substring) throws(RedisError) -> (String, Int) {
        var host = authority
        var port: Substring?
        if authority.first == "[" {
            guard let end = authority.firstIndex(of: "]") else {
                throw .invalidConfiguration("the host has an opening bracket only")
            }
            host = authority[authority.index(after: authority.startIndex)..<end]
            let tail = authority[authority.index(after: end)...]
            guard tail.isEmpty || tail.first == ":" else {
                throw .invalidConfiguration("text follows the host's bracket")
            }
            port = tail.isEmpty ? nil : tail.dropFirst()
        } else if let colon = authority.firstIndex(of: ":") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard host.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "%") }) else {
            throw .invalidConfiguration("the host has characters that no host name has")
        }
        guard let port else { return (String(host), 6_379) }
        return (String(host), try number(port, "the port"))
    }

    private static func database(ofPath path: Substring) throws(RedisError) -> Int {
        path.count < 2 ? 0 : try number(path.dropFirst(), "the database")
    }

    /// Digits only: `Int` alone would also take a sign.
    private static func number(_ text: Substring, _ name: String) throws(RedisError) -> Int {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text) else {
            throw .invalidConfiguration("\(name) is not a number")
        }
        return number
    }

    private static func decoded(_ text: Substring) throws(RedisError) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexadecimalValue),
                let low = rest.popFirst().flatMap(hexadecimalValue)
            else { throw .invalidConfiguration("the URL has a percent sign without two hexadecimal digits") }
            bytes.append(high << 4 | low)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw .invalidConfiguration("the URL is not UTF-8 text once decoded")
        }
        return decoded
    }

    private static func hexadecimalValue(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x41...0x46: digit - 0x41 + 10
        case 0x61...0x66: digit - 0x61 + 10
        default: nil
        }
    }

    private static func range(of needle: String, in text: String) -> Range<String.Index>? {
        text.indices.first { text[$0...].hasPrefix(needle) }.map { $0..<text.index($0, offsetBy: needle.count) }
    }
}
