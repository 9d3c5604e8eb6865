import PasswordHashing
import Testing

/// Small costs, so that the tests are quick.
private let cheap = PasswordHashParameters(memoryKibibytes: 64, iterations: 1, parallelism: 1)

@Suite struct PasswordHasherTests {
    @Test(
        "hashes from Argon2's own test vectors verify",
        arguments: [
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ])
    func knownHashes(stored: String) async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        #expect(try await hasher.verify(Array("password".utf8), against: stored))
        #expect(try await !hasher.verify(Array("differentpassword".utf8), against: stored))
        await hasher.shutdown()
    }

    @Test("a hash has the recommended costs by default, a salt of its own, and verifies")
    func roundTrip() async throws {
        let hasher = try PasswordHasher()
        let password = Array("correct horse battery staple".utf8)
        let first = try await hasher.hash(password)
        let second = try await hasher.hash(password)
        #expect(first.hasPrefix("$argon2id$v=19$m=19456,t=2,p=1$"))
        #expect(first != second)
        #expect(try await hasher.verify(password, against: first))
        #expect(try await hasher.verify(password, against: second))
        await hasher.shutdown()
    }

    @Test("a wrong password does not verify", arguments: ["", "Secret", "secret ", "secre", "secret\0"])
    func wrongPassword(candidate: String) async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        let stored = try await hasher.hash(Array("secret".utf8))
        #expect(try await !hasher.verify(Array(candidate.utf8), against: stored))
        await hasher.shutdown()
    }

    @Test("any bytes are a password, also none and zeros", arguments: [[], [0], [0, 0], [255, 0, 254]] as [[UInt8]])
    func bytes(password: [UInt8]) async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        let stored = try await hasher.hash(password)
        #expect(try await hasher.verify(password, against: stored))
        #expect(try await !hasher.verify(password + [0], against: stored))
        await hasher.shutdown()
    }

    @Test("a password of 1024 bytes is taken and one of 1025 refused")
    func lengthLimit() async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        let longest = [UInt8](repeating: 0x61, count: 1_024)
        let stored = try await hasher.hash(longest)
        #expect(try await hasher.verify(longest, against: stored))
        await #expect(throws: PasswordHashingError.passwordTooLong) { try await hasher.hash(longest + [0x61]) }
        await #expect(throws: PasswordHashingError.passwordTooLong) {
            try await hasher.verify(longest + [0x61], against: stored)
        }
        await hasher.shutdown()
    }

    @Test("at the bound of the queue a password is refused as busy, and later ones are taken again")
    func busy() async throws {
        let slow = PasswordHashParameters(memoryKibibytes: 65_536, iterations: 4, parallelism: 1)
        let hasher = try PasswordHasher(parameters: slow, threads: 1, queueLimit: 2)
        let outcomes = await withTaskGroup(of: PasswordHashingError?.self) { group in
            for _ in 0..<6 {
                group.addTask {
                    do throws(PasswordHashingError) {
                        _ = try await hasher.hash([1, 2, 3])
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        let admitted = outcomes.filter { $0 == nil }.count
        #expect(admitted >= 2)
        #expect(outcomes.contains(.busy))
        #expect(outcomes.allSatisfy { $0 == nil || $0 == .busy })
        _ = try await hasher.hash([1, 2, 3])
        await hasher.shutdown()
    }

    @Test(
        "a stored text that is no acceptable Argon2id hash is an error and not a wrong password",
        arguments: [
            "", "$", "password", "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=99,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=64$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=+256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$",
            "$argon2id$v=19$m=256,t=2,p=1$c2$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$c29tc2FsdA$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65!OgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ])
    func malformed(stored: String) async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        await #expect(throws: PasswordHashingError.malformedHash) {
            try await hasher.verify(Array("password".utf8), against: stored)
        }
        #expect(hasher.needsRehash(stored))
        await hasher.shutdown()
    }

    @Test("a hash is renewed if its costs are not the hasher's, and only then")
    func needsRehash() async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        let stored = try await hasher.hash([1])
        #expect(!hasher.needsRehash(stored))
        for other in [
            PasswordHashParameters(memoryKibibytes: 128, iterations: 1, parallelism: 1),
            PasswordHashParameters(memoryKibibytes: 64, iterations: 2, parallelism: 1),
            PasswordHashParameters(memoryKibibytes: 64, iterations: 1, parallelism: 2),
        ] {
            let changed = try PasswordHasher(parameters: other)
            #expect(changed.needsRehash(stored))
            #expect(try await changed.verify([1], against: stored))
            await changed.shutdown()
        }
        await hasher.shutdown()
    }

    @Test("costs, threads and queue outside their bounds are refused")
    func parameterBounds() {
        for parameters in [
            PasswordHashParameters(memoryKibibytes: 7), PasswordHashParameters(memoryKibibytes: 262_145),
            PasswordHashParameters(iterations: 0), PasswordHashParameters(iterations: 17),
            PasswordHashParameters(parallelism: 0), PasswordHashParameters(parallelism: 9),
            PasswordHashParameters(memoryKibibytes: 15, iterations: 1, parallelism: 2),
        ] {
            #expect(throws: PasswordHashingError.self) { try PasswordHasher(parameters: parameters) }
        }
        #expect(throws: PasswordHashingError.self) { try PasswordHasher(threads: 0) }
        #expect(throws: PasswordHashingError.self) { try PasswordHasher(threads: 3) }
        #expect(throws: PasswordHashingError.self) { try PasswordHasher(threads: 2, queueLimit: 1) }
    }

    @Test("after the shutdown a password is refused")
    func closed() async throws {
        let hasher = try PasswordHasher(parameters: cheap)
        await hasher.shutdown()
        await #expect(throws: PasswordHashingError.closed) { try await hasher.hash([1]) }
        await hasher.shutdown()
    }
}
