/// Where Redis is, how to log in, and every bound of the client.
public struct RedisConfiguration: Sendable {
    public enum Address: Hashable, Sendable {
        /// A name or a numeric address, without brackets.
        case host(String, port: Int)
        case unixSocket(path: String)
    }

    public enum Transport: Hashable, Sendable {
        case plain
        /// TLS; the certificate and the host name are always verified.
        /// - Parameter authorityFile: PEM file of the only certificate authorities to trust; `nil` for the system's.
        case tls(authorityFile: String?)
    }

    public var address: Address
    public var transport: Transport
    public var credentials: RedisCredentials?
    /// The number of the database to SELECT.
    public var database: Int
    /// Shown by CLIENT LIST. Printable ASCII without spaces.
    public var clientName = "weir"

    /// From handing a command over to its reply. A command that takes longer ends its connection, because a late reply
    /// would be taken for the next command's.
    public var commandTimeoutMilliseconds: Int64 = 200
    /// For the transport to connect, and once more for TLS and log-in together.
    public var connectTimeoutMilliseconds: Int64 = 1_000
    /// Connections of a client; `nil` means one for each event loop.
    public var connections: Int?
    /// Outstanding commands of one connection. At the bound a command fails with `.overloaded`.
    public var maximumPendingCommands = 4_096
    public var backoff = RedisBackoff()
    /// How often a subscription, on which nothing may arrive for hours, asks whether its peer is still there.
    public var subscriptionPingIntervalMilliseconds: Int64 = 5_000
    /// Events that a subscription keeps for a slow consumer. At the bound the oldest go and `.missed` says so.
    public var subscriptionBufferCount = 1_024

    public init(
        address: Address, transport: Transport = .plain, credentials: RedisCredentials? = nil, database: Int = 0
    ) {
        self.address = address
        self.transport = transport
        self.credentials = credentials
        self.database = database
    }

    /// - Throws: `.invalidConfiguration` naming the first setting that cannot be used.
    public func validate() throws(RedisError) {
        func require(_ condition: Bool, _ text: String) throws(RedisError) {
            guard condition else { throw .invalidConfiguration(text) }
        }
        switch address {
        case .host(let host, let port):
            try require(!host.isEmpty, "the host is empty")
            try require((1...65_535).contains(port), "the port is not between 1 and 65535")
        case .unixSocket(let path):
            // `sun_path` has 108 bytes on Linux, one of them the terminator.
            try require((1...107).contains(path.utf8.count), "the socket path is empty or longer than 107 bytes")
            try require(transport == .plain, "TLS is not used on a Unix socket")
        }
        try require((0...65_535).contains(database), "the database is not between 0 and 65535")
        try require(
            !clientName.isEmpty && clientName.utf8.allSatisfy { (0x21...0x7E).contains($0) },
            "the client name is empty or not printable")
        let timeouts = 1...Int64(600_000)
        try require(timeouts.contains(commandTimeoutMilliseconds), "the command timeout is not within 10 minutes")
        try require(timeouts.contains(connectTimeoutMilliseconds), "the connect timeout is not within 10 minutes")
        try require(
            timeouts.contains(subscriptionPingIntervalMilliseconds), "the ping interval is not within 10 minutes")
        try require((1...1_024).contains(connections ?? 1), "the number of connections is not between 1 and 1024")
        // The three commands of a log-in are outstanding together.
        try require((3...1_048_576).contains(maximumPendingCommands), "the bound of pending commands is out of range")
        try require((2...1_048_576).contains(subscriptionBufferCount), "the subscription buffer is out of range")
        try require(timeouts.contains(backoff.baseMilliseconds), "the base of the backoff is not within 10 minutes")
        try require(
            (backoff.baseMilliseconds...timeouts.upperBound).contains(backoff.maximumMilliseconds),
            "the maximum of the backoff is below its base or above 10 minutes")
    }
}

/// A user and password. Prints as neither.
public struct RedisCredentials: Hashable, Sendable {
    /// `nil` is Redis's default user.
    public var user: String?
    public var password: String

    public init(user: String? = nil, password: String) {
        self.user = user
        self.password = password
    }
}

extension RedisCredentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "(hidden)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Exponential backoff with full jitter: the n-th wait is uniform between 0 and `min(maximum, base · 2ⁿ)`.
///
/// Source of the formula: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
public struct RedisBackoff: Hashable, Sendable {
    public var baseMilliseconds: Int64
    public var maximumMilliseconds: Int64

    public init(baseMilliseconds: Int64 = 50, maximumMilliseconds: Int64 = 2_000) {
        self.baseMilliseconds = baseMilliseconds
        self.maximumMilliseconds = maximumMilliseconds
    }

    /// The longest that the wait after this many failures in a row may be.
    func ceilingMilliseconds(failureCount: Int) -> Int64 {
        var ceiling = baseMilliseconds
        for _ in 1..<max(failureCount, 1) where ceiling < maximumMilliseconds { ceiling *= 2 }
        return min(ceiling, maximumMilliseconds)
    }
}
