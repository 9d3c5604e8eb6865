import Domain
import Foundation
import NIOCore
import NIOSSL
import Testing

@testable import InferenceClient

@Suite("Workers that speak TLS", .timeLimit(.minutes(1)))
struct WorkerTLSTests {
    /// An authority of its own, a certificate of that authority for the given names, and another authority, made by
    /// openssl in a temporary folder.
    struct Certificates {
        struct Failure: Error {}

        let folder: URL

        init(names: String = "DNS:worker.test,IP:127.0.0.1") throws {
            folder = FileManager.default.temporaryDirectory.appending(path: "weir-tls-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try authority("authority")
            try authority("stranger")
            try openssl(
                ["-CA", path("authority.pem"), "-CAkey", path("authority.key"), "-addext", "subjectAltName=\(names)"]
                    + ["-addext", "basicConstraints=critical,CA:FALSE", "-subj", "/CN=worker"], makes: "worker")
        }

        func path(_ name: String) -> String { folder.appending(path: name).path }

        func remove() {
            try? FileManager.default.removeItem(at: folder)
        }

        func serverContext() throws -> NIOSSLContext {
            let chain = try NIOSSLCertificate.fromPEMFile(path("worker.pem")).map {
                NIOSSLCertificateSource.certificate($0)
            }
            let key = try NIOSSLPrivateKey(file: path("worker.key"), format: .pem)
            return try NIOSSLContext(
                configuration: .makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(key)))
        }

        private func authority(_ name: String) throws {
            try openssl(["-subj", "/CN=\(name)"], makes: name)
        }

        private func openssl(_ arguments: [String], makes name: String) throws {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments =
                [
                    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2",
                ]
                + ["-keyout", path("\(name).key"), "-out", path("\(name).pem")] + arguments
            process.standardError = FileHandle.nullDevice
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            guard process.terminationStatus == 0 else { throw Failure() }
        }
    }

    static func withTLSWorker(
        authority: String, names: String = "DNS:worker.test,IP:127.0.0.1",
        script: @escaping ScriptedWorker.Script = { _ in [.send(ok)] },
        _ body: @Sendable (Calling) async throws -> Void
    ) async throws {
        let certificates = try Certificates(names: names)
        defer { certificates.remove() }
        let trust = try WorkerTrust(certificateAuthorityFile: certificates.path("\(authority).pem"))
        let configure: (inout WorkerClient.Configuration) -> Void = {
            $0.trust = trust
            $0.lookup = { _, port in [try SocketAddress(ipAddress: "127.0.0.1", port: port)] }
        }
        try await withWorker(tls: certificates.serverContext(), configure: configure, script: script, body)
    }

    static func address(_ host: String, _ calling: Calling) -> WorkerAddress {
        WorkerAddress(host: host, port: calling.worker.port, usesTLS: true)
    }

    @Test("a worker with a trusted certificate is called, by name and by address, over one connection each")
    func trusted() async throws {
        try await Self.withTLSWorker(authority: "authority") { calling in
            for host in ["worker.test", "127.0.0.1"] {
                for _ in 0..<5 {
                    let reply = try await calling.send(to: Self.address(host, calling))
                    #expect(String(buffer: reply.body) == "{}")
                }
            }
            #expect(calling.worker.record.connectionCount == 2)
            #expect(calling.client.statistics == .init(openConnections: 2, idleConnections: 2, waitingRequests: 0))
        }
    }

    @Test("a certificate of a stranger is not believed, and nothing is sent")
    func untrusted() async throws {
        try await Self.withTLSWorker(authority: "stranger") { calling in
            #expect(await calling.failure(to: Self.address("worker.test", calling)) == .tls)
            #expect(calling.worker.record.received.isEmpty)
            try await calling.settle { $0 == .init() }
        }
    }

    @Test(
        "a certificate for another name or address is not believed",
        arguments: [("DNS:worker.test", "other.test"), ("DNS:worker.test", "127.0.0.1"), ("IP:127.0.0.2", "127.0.0.1")])
    func wrongName(names: String, host: String) async throws {
        try await Self.withTLSWorker(authority: "authority", names: names) { calling in
            #expect(await calling.failure(to: Self.address(host, calling)) == .tls)
            #expect(calling.worker.record.received.isEmpty)
        }
    }

    @Test("the system's authorities do not know the worker's")
    func system() async throws {
        let certificates = try Certificates()
        defer { certificates.remove() }
        try await withWorker(tls: certificates.serverContext()) { calling in
            #expect(await calling.failure(to: Self.address("127.0.0.1", calling)) == .tls)
        }
    }

    @Test("a worker that speaks no TLS fails the handshake")
    func noTLS() async throws {
        let plain = ScriptedWorker { _ in [] }
        try await plain.start()
        try await withWorker { calling in
            async let failure = calling.failure(to: WorkerAddress(host: "127.0.0.1", port: plain.port, usesTLS: true))
            await plain.wait { $0.byteCount > 0 }
            plain.send("HTTP/1.1 400 Bad Request\r\n\r\n", on: 0)
            #expect(await failure == .tls)
            try await calling.settle { $0 == .init() }
        }
        await plain.stop()
    }

    @Test("a handshake that does not end is over at the connect deadline")
    func slowHandshake() async throws {
        let silent = ScriptedWorker { _ in [] }
        try await silent.start()
        // The system's authorities are read for the first connection; that must not be what takes the time here.
        _ = try WorkerTrust.system.loadSystemContext()
        try await withWorker { calling in
            let deadlines = WorkerDeadlines(
                connectMilliseconds: 100, firstByteMilliseconds: 5_000, totalMilliseconds: 9_000)
            let address = WorkerAddress(host: "127.0.0.1", port: silent.port, usesTLS: true)
            #expect(await calling.failure(to: address, deadlines: deadlines) == .connectTimeout)
            await silent.wait { $0.closedCount == 1 }
        }
        await silent.stop()
    }

    @Test("a stale TLS connection is replaced like any other")
    func stale() async throws {
        let script: ScriptedWorker.Script = { $0.connection == 0 && $0.number == 1 ? [.close] : [.send(ok)] }
        try await Self.withTLSWorker(authority: "authority", script: script) { calling in
            for _ in 0..<3 { _ = try await calling.send(to: Self.address("worker.test", calling)) }
            #expect(calling.worker.record.received.map(\.connection) == [0, 0, 1, 1])
        }
    }

    @Test("a body without a length is whole only if the session was ended in order")
    func truncated() async throws {
        let script: ScriptedWorker.Script = { received in
            let text = "HTTP/1.1 200 OK\r\n\r\nto the end"
            return received.number == 0 && received.connection == 0 ? [.send(text), .close] : [.send(text)]
        }
        try await Self.withTLSWorker(authority: "authority", script: script) { calling in
            let reply = try await calling.send(to: Self.address("worker.test", calling))
            #expect(String(buffer: reply.body) == "to the end")
            async let failure = calling.failure(to: Self.address("worker.test", calling))
            await calling.worker.wait { $0.received.count == 2 }
            calling.worker.cut(connection: 1)
            let seen = await failure
            #expect(seen == .closedMidResponse || seen == .closedBeforeResponse)
        }
    }

    @Test("a file that holds no certificate is refused at the start")
    func badFile() throws {
        let folder = FileManager.default.temporaryDirectory
        let empty = folder.appending(path: "weir-empty-\(UUID().uuidString).pem")
        try Data().write(to: empty)
        defer { try? FileManager.default.removeItem(at: empty) }
        #expect(throws: WorkerFailure.tls) { try WorkerTrust(certificateAuthorityFile: empty.path) }
        #expect(throws: WorkerFailure.tls) { try WorkerTrust(certificateAuthorityFile: "/nonexistent/authority.pem") }
    }
}
