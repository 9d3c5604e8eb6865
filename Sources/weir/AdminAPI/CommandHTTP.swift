import AsyncHTTPClient
import NIOCore

/// The HTTP client of the command line. It lives as long as the process.
enum CommandHTTP {
    /// One attempt for each request. The library's shared client goes on trying a refused connection until the
    /// request's deadline, and a person who mistyped a port would wait for it.
    static let client: HTTPClient = {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.timeout.connect = .seconds(5)
        configuration.redirectConfiguration = .disallow
        return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }()
}
