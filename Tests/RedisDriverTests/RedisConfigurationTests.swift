import RedisDriver
import Testing

@Suite struct RedisConfigurationTests {
    struct Example: CustomTestStringConvertible {
        var url: String
        var address: RedisConfiguration.Address
        var transport = RedisConfiguration.Transport.plain
        var credentials: RedisCredentials?
        var database = 0
        var testDescription: String { url }
    }

    @Test(
        "a URL says where Redis is",
        arguments: [
            Example(url: "redis://localhost", address: .host("localhost", port: 6_379)),
            Example(url: "redis://localhost/", address: .host("localhost", port: 6_379)),
            Example(url: "REDIS://10.0.0.1:7000/3", address: .host("10.0.0.1", port: 7_000), database: 3),
            Example(url: "redis://[::1]:7000", address: .host("::1", port: 7_000)),
            Example(url: "redis://[::1]", address: .host("::1", port: 6_379)),
            Example(
                url: "redis://user:pass@host:1/15", address: .host("host", port: 1),
                credentials: RedisCredentials(user: "user", password: "pass"), database: 15),
            Example(
                url: "redis://:pass@host", address: .host("host", port: 6_379),
                credentials: RedisCredentials(password: "pass")),
            Example(
                url: "redis://a%40b:p%3Aa%2Fss%25@host", address: .host("host", port: 6_379),
                credentials: RedisCredentials(user: "a@b", password: "p:a/ss%")),
            Example(
                url: "rediss://host", address: .host("host", port: 6_379), transport: .tls(authorityFile: nil)),
            Example(
                url: "rediss://host?ca_file=/etc/ca.pem", address: .host("host", port: 6_379),
                transport: .tls(authorityFile: "/etc/ca.pem")),
            Example(url: "unix:///run/redis.sock", address: .unixSocket(path: "/run/redis.sock")),
            Example(url: "unix:///run/redis.sock?db=2", address: .unixSocket(path: "/run/redis.sock"), database: 2),
            Example(
                url: "unix://:pass@/run/redis.sock", address: .unixSocket(path: "/run/redis.sock"),
                credentials: RedisCredentials(password: "pass")),
        ])
    func goodURL(example: Example) throws {
        let configuration = try RedisConfiguration(url: example.url)
        #expect(configuration.address == example.address)
        #expect(configuration.transport == example.transport)
        #expect(configuration.credentials == example.credentials)
        #expect(configuration.database == example.database)
    }

    @Test(
        "a bad URL is refused without repeating it",
        arguments: [
            "", "localhost:6379", "http://hunter2@host", "redis://", "redis://:6379", "redis://host:0",
            "redis://host:65536",
            "redis://host:+1", "redis://host:hunter2", "redis://host/x", "redis://host/-1", "redis://host/1/2",
            "redis://host/65536", "redis://hunter2@host", "redis://user:@host", "redis://:hunter2%@host",
            "redis://:hunter2%zz@host", "redis://:hunter2%00@host", "redis://:hunter2%ff@host",
            "redis://:hunter2/x@host",
            "redis://[::1", "redis://[::1]x", "redis://host#hunter2", "redis://host?hunter2", "redis://host?timeout=1",
            "redis://host?ca_file=/x", "redis://ho%73t", "redis://ho st", "unix://host/path", "unix://",
            "unix:///" + String(repeating: "x", count: 107), "redis://host?client_name=a%20b",
        ])
    func badURL(url: String) {
        #expect {
            try RedisConfiguration(url: url)
        } throws: { error in
            guard case .invalidConfiguration? = error as? RedisError else { return false }
            return !"\(error)".contains("hunter2")
        }
    }

    @Test("credentials do not print")
    func redaction() throws {
        let configuration = try RedisConfiguration(url: "redis://somebody:hunter2@host")
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(configuration)", String(reflecting: configuration), dumped] {
            #expect(!text.contains("hunter2"))
            #expect(!text.contains("somebody"))
        }
    }

    @Test("settings outside their bounds are refused")
    func bounds() throws {
        let good = try RedisConfiguration(url: "redis://host")
        let changes: [(inout RedisConfiguration) -> Void] = [
            { $0.commandTimeoutMilliseconds = 0 }, { $0.connectTimeoutMilliseconds = 600_001 }, { $0.connections = 0 },
            { $0.maximumPendingCommands = 2 }, { $0.backoff.baseMilliseconds = 0 },
            { $0.backoff.maximumMilliseconds = 1 }, { $0.subscriptionBufferCount = 1 }, { $0.clientName = "a b" },
            { $0.subscriptionPingIntervalMilliseconds = 0 }, { $0.database = -1 },
        ]
        for change in changes {
            var configuration = good
            change(&configuration)
            #expect(throws: RedisError.self) { try configuration.validate() }
        }
    }
}
