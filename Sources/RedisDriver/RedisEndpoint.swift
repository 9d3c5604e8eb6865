internal import NIOCore
import NIOPosix
import NIOSSL

/// Makes channels to the configured address, each ending in a `RedisConnection`.
struct RedisEndpoint: Sendable {
    let configuration: RedisConfiguration
    let metrics: RedisMetrics
    private let sslContext: NIOSSLContext?

    /// - Throws: `.invalidConfiguration`, or `.tls` if the authorities cannot be read.
    init(configuration: RedisConfiguration) throws(RedisError) {
        try configuration.validate()
        self.configuration = configuration
        metrics = RedisMetrics()
        guard case .tls(let authorityFile) = configuration.transport else {
            sslContext = nil
            return
        }
        var settings = TLSConfiguration.makeClientConfiguration()
        settings.minimumTLSVersion = .tlsv12
        settings.certificateVerification = .fullVerification
        if let authorityFile { settings.trustRoots = .file(authorityFile) }
        do {
            sslContext = try NIOSSLContext(configuration: settings)
        } catch {
            throw .tls("the certificate authorities cannot be used: \(RedisConnection.text(of: error))")
        }
    }

    func connect(on eventLoop: any EventLoop, onMessage: (@Sendable (RedisMessage) -> Void)?) -> EventLoopFuture<
        any Channel
    > {
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(.milliseconds(configuration.connectTimeoutMilliseconds))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let sslContext {
                        let handler = try NIOSSLClientHandler(context: sslContext, serverHostname: serverName)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                    let connection = try RedisConnection(
                        maximumPendingCommands: configuration.maximumPendingCommands, metrics: metrics,
                        onMessage: onMessage)
                    try channel.pipeline.syncOperations.addHandler(connection)
                }
            }
        return switch configuration.address {
        case .host(let host, let port): bootstrap.connect(host: host, port: port)
        case .unixSocket(let path): bootstrap.connect(unixDomainSocketPath: path)
        }
    }

    /// The name for SNI and verification; `nil` for a numeric address, which is verified against the certificate's
    /// addresses instead.
    private var serverName: String? {
        guard case .host(let host, _) = configuration.address else { return nil }
        return (try? SocketAddress(ipAddress: host, port: 0)) == nil ? host : nil
    }

    /// The first commands of every connection.
    func loginSteps() -> [LoginStep] {
        var steps: [LoginStep] = []
        if let credentials = configuration.credentials {
            var command = RedisCommand("AUTH")
            if let user = credentials.user { command.append(user) }
            command.append(credentials.password)
            steps.append(LoginStep(kind: .authenticate, command: command))
        }
        if configuration.database != 0 {
            steps.append(LoginStep(kind: .required, command: RedisCommand("SELECT").appending(configuration.database)))
        }
        steps.append(LoginStep(kind: .optional, command: RedisCommand("CLIENT", "SETNAME", configuration.clientName)))
        return steps
    }
}

/// A command that a new connection has to get through before it is ready.
struct LoginStep: Sendable {
    enum Kind {
        case authenticate
        case required
        /// A restricted user may be refused this one and still work.
        case optional
    }

    let kind: Kind
    let command: RedisCommand

    /// What a failure of this step means for the connection; `nil` if it goes on.
    func verdict(on error: RedisError) -> RedisError? {
        guard case .serverError(let reply) = error else { return error }
        switch reply.code {
        case "NOAUTH", "WRONGPASS": return .authenticationFailed
        // Redis before 6, and Redis without a password, answer AUTH with a plain ERR.
        case "ERR"
        where kind == .authenticate && (reply.message.contains("password") || reply.message.contains("AUTH")):
            return .authenticationFailed
        default: return kind == .optional ? nil : error
        }
    }
}
