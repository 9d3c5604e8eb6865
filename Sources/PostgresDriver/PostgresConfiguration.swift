internal import CLibPQ

/// Where the server is, who we are to it, and how long anything may take.
///
/// TLS is libpq's: `sslmode`, `sslrootcert` and the like are query parameters of the URL.
public struct PostgresConfiguration: Sendable {
    /// libpq's connection keywords, from the URL. Holds the password; read it nowhere but in the session.
    var keywords: [String: String]

    /// Shown in `pg_stat_activity`.
    public var applicationName: String
    /// The role taken at the start of every session, after `^[a-z_][a-z0-9_]*$`; nil stays with the login role.
    public private(set) var role: String?
    /// The server stops a statement after this long; nil leaves the server's default.
    public var statementTimeoutMilliseconds: Int?
    /// The server stops waiting for a lock after this long; nil leaves the server's default.
    public var lockTimeoutMilliseconds: Int?
    /// The server ends a session that idles inside a transaction for this long; nil leaves the server's default.
    public var idleInTransactionTimeoutMilliseconds: Int?
    /// From the first packet to a usable session. Name resolution is not covered: libpq resolves names without a
    /// deadline, so write addresses where that matters.
    public var connectTimeoutMilliseconds: Int
    /// How long the server may be silent while an answer is due. After that the connection counts as lost and is
    /// closed. Must be longer than the statement timeout, or slow statements become lost connections with an unknown
    /// outcome.
    public var answerTimeoutMilliseconds: Int

    /// Reads a URL: `postgres://`, `postgresql://`, or either with a SQLAlchemy driver suffix
    /// (`postgresql+asyncpg://`), which is dropped. Query parameters are libpq's keywords and override the parts before
    /// them, as in libpq; SQLAlchemy's `ssl` is taken for `sslmode`.
    ///
    /// - Throws: `.configuration`, naming the part that is wrong and never its value.
    public init(
        url: String, applicationName: String = "weir", role: String? = nil,
        statementTimeoutMilliseconds: Int? = nil, lockTimeoutMilliseconds: Int? = nil,
        idleInTransactionTimeoutMilliseconds: Int? = nil,
        connectTimeoutMilliseconds: Int = 5_000, answerTimeoutMilliseconds: Int = 30_000
    ) throws(PostgresError) {
        keywords = try PostgresURL.keywords(of: url)
        let known = Self.knownKeywords
        if let unknown = keywords.keys.sorted().first(where: { !known.contains($0) }) {
            throw PostgresError(
                .configuration, "the database URL has the query parameter \(unknown), which libpq does not know")
        }
        self.applicationName = keywords.removeValue(forKey: "application_name") ?? applicationName
        self.statementTimeoutMilliseconds = statementTimeoutMilliseconds
        self.lockTimeoutMilliseconds = lockTimeoutMilliseconds
        self.idleInTransactionTimeoutMilliseconds = idleInTransactionTimeoutMilliseconds
        self.connectTimeoutMilliseconds = connectTimeoutMilliseconds
        self.answerTimeoutMilliseconds = answerTimeoutMilliseconds
        try setRole(role)
    }

    /// Changes the role.
    /// - Throws: `.configuration` when the name is not a plain lower-case identifier.
    public mutating func setRole(_ role: String?) throws(PostgresError) {
        if let role, !isPlainIdentifier(role) {
            throw PostgresError(.configuration, "the role must match ^[a-z_][a-z0-9_]*$ and have at most 63 characters")
        }
        self.role = role
    }

    /// The host as given: a name, an address, several with commas, or the folder of a Unix socket.
    public var host: String? { keywords["host"] }
    /// The port or ports as given.
    public var port: String? { keywords["port"] }
    /// The login role.
    public var user: String? { keywords["user"] }
    /// The database.
    public var database: String? { keywords["dbname"] }

    private static let knownKeywords: Set<String> = {
        guard let options = PQconndefaults() else { return [] }
        defer { PQconninfoFree(options) }
        var known: Set<String> = []
        var option = options
        while let keyword = option.pointee.keyword {
            known.insert(String(cString: keyword))
            option += 1
        }
        return known
    }()

    /// What libpq is given. Keep-alive and send deadlines are ours unless the URL says otherwise, because the kernel's
    /// defaults notice a vanished peer after two hours.
    var connectionKeywords: [(String, String)] {
        var all = [
            "keepalives_idle": "30", "keepalives_interval": "5", "keepalives_count": "3",
            "tcp_user_timeout": "\(answerTimeoutMilliseconds)",
        ]
        all.merge(keywords) { _, own in own }
        all["application_name"] = applicationName
        all["client_encoding"] = "UTF8"
        return all.sorted { $0.key < $1.key }
    }
}

extension PostgresConfiguration: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Everything but secrets.
    public var description: String {
        let shown = keywords.sorted { $0.key < $1.key }.map { key, value in
            key.contains("password") ? "\(key)=***" : "\(key)=\(value)"
        }
        return (shown + ["application_name=\(applicationName)"] + (role.map { ["role=\($0)"] } ?? [])).joined(
            separator: " ")
    }

    public var debugDescription: String { description }
    /// `dump` and string interpolation of an enclosing value walk the mirror, which would show the password.
    public var customMirror: Mirror { Mirror(self, children: ["configuration": description]) }
}

/// Whether the text needs no quotes as an SQL identifier: `^[a-z_][a-z0-9_]*$`, at most 63 bytes (NAMEDATALEN - 1).
func isPlainIdentifier(_ text: String) -> Bool {
    guard let first = text.utf8.first, text.utf8.count <= 63, isPlainLetter(first) else { return false }
    return text.utf8.allSatisfy { isPlainLetter($0) || ($0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9")) }
}

private func isPlainLetter(_ byte: UInt8) -> Bool {
    (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z")) || byte == UInt8(ascii: "_")
}
