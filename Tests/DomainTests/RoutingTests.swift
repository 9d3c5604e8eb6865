import Testing

@testable import Domain

@Suite("Routing") struct RoutingTests {
    @Test(
        "a version cannot lead anywhere else on a worker",
        arguments: [
            ("1", true), ("2026-03_a+b.c", true), (".5", true), ("", false), (".", false), ("..", false),
            ("1..2", false), ("1/2", false), ("a b", false), ("é", false), ("%2e", false),
            (String(repeating: "1", count: 128), true), (String(repeating: "1", count: 129), false),
        ])
    func version(text: String, isValid: Bool) {
        #expect(ModelVersionName.isValid(text.utf8) == isValid)
    }

    @Test(
        "the address of a worker is a host and a port",
        arguments: [
            ("127.0.0.1:8000", "127.0.0.1", 8_000, false), ("worker:1", "worker", 1, false),
            ("http://worker-1.local:65535", "worker-1.local", 65_535, false),
            ("https://worker_1:8443", "worker_1", 8_443, true), ("[::1]:8000", "::1", 8_000, false),
            ("https://[fd00::1]:443", "fd00::1", 443, true),
        ] as [(String, String, Int, Bool)])
    func address(text: String, host: String, port: Int, usesTLS: Bool) {
        #expect(WorkerAddress(text) == WorkerAddress(host: host, port: port, usesTLS: usesTLS))
    }

    @Test(
        "anything more than an address is refused",
        arguments: [
            "", ":", "host", "host:", ":80", "host:0", "host:65536", "host:-1", "host:+1", "host:0x50", "host:8 0",
            "host:80/", "host:80/path",
            "http://host:80/predict", "http://user@host:80", "user:pass@host:80", "host:80?x=1", "host:80#x",
            "ftp://host:80", "HTTP://host:80",
            "::1:80", "[::1:80", "::1]:80", "[]:80", "http://:80", "ho st:80", "host\r\n:80", "hóst:80", "host%2f:80",
            "http://http://host:80",
            "[fe80::1%25eth0]:80", "host:99999999999999999999",
        ])
    func noAddress(text: String) {
        #expect(WorkerAddress(text) == nil)
    }

    @Test(
        "an address is written so that it can be read again",
        arguments: ["127.0.0.1:8000", "[::1]:9", "worker.local:80"])
    func addressText(text: String) {
        #expect(WorkerAddress(text)?.description == text)
    }

    @Test("a host of more than 253 bytes is refused")
    func longHost() {
        #expect(WorkerAddress(String(repeating: "a", count: 253) + ":80") != nil)
        #expect(WorkerAddress(String(repeating: "a", count: 254) + ":80") == nil)
    }

    @Test(
        "a model's name is lower case and has no way into another path",
        arguments: [
            ("iris", true), ("a", true), ("0", true), ("a.b", true), ("a-b_c.d", true), ("a.", true), ("a-", true),
            (String(repeating: "a", count: 128), true),
            ("", false), (String(repeating: "a", count: 129), false), (".a", false), ("-a", false), ("_a", false),
            ("a..b", false), ("a...b", false),
            ("A", false), ("iRis", false), ("a/b", false), ("a%2fb", false), ("a b", false), ("a\u{0}", false),
            ("іris", false), ("a\n", false),
            ("a:b", false), ("a@1", false), ("..", false),
        ] as [(String, Bool)])
    func modelName(text: String, isValid: Bool) {
        #expect(ModelName.isValid(Array(text.utf8)) == isValid)
    }

    private func route(_ name: String, version: String = "1") -> ModelRoute {
        ModelRoute(
            profile: ModelProfile(
                name: name, version: version, featureCount: nil, fixedTokensPerRequest: 1, maximumOutputTokens: 0),
            replicas: [])
    }

    @Test("a table finds a model by its exact name, and lists them in order")
    func table() {
        let table = RouteTable([route("b"), route("a"), route("b", version: "2")], source: .redis)
        #expect(table["b"]?.profile.version == "2")
        #expect(table["B"] == nil)
        #expect(table["c"] == nil)
        #expect(table.models.map(\.profile.name) == ["a", "b"])
        #expect(table.source == .redis)
        #expect(RouteTable.empty.models.isEmpty)
    }
}
