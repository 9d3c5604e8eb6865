internal import Crypto
public import Domain

/// The private half of a signing key, ready to sign.
public struct HeadSigner: Sendable {
    public let id: SigningKeyID
    private let key: Curve25519.Signing.PrivateKey

    /// - Parameter seed: 32 bytes (RFC 8032, section 5.1.5). Secret.
    public init?(seed: [UInt8]) {
        guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: seed) else { return nil }
        self.key = key
        id = SigningKeyID(of: Array(key.publicKey.rawRepresentation))
    }

    /// A seed that nobody can guess.
    public static func newSeed() -> [UInt8] { Array(Curve25519.Signing.PrivateKey().rawRepresentation) }

    public var publicKey: [UInt8] { Array(key.publicKey.rawRepresentation) }

    public func head(of chain: ProofChain, sequence: Int64, hash: ProofHash, at instant: Timestamp) -> SignedHead? {
        let form = chain.headForm(sequence: sequence, hash: hash, signedAt: instant, keyID: id)
        guard let signature = sign(form) else { return nil }
        return SignedHead(
            chain: chain, sequence: sequence, hash: hash, signedAt: instant, keyID: id, signature: signature)
    }

    func sign(_ message: [UInt8]) -> [UInt8]? { (try? key.signature(for: message)).map { Array($0) } }
}

extension SigningKeyID {
    /// The name that belongs to a public key.
    public init(of publicKey: [UInt8]) { self.init(word: ProofHash(sha256: publicKey).words.0) }
}

/// The public keys of an installation, to verify with.
public struct KeySet: Sendable {
    private let keys: [SigningKeyID: PublicSigningKey]
    /// How far a signature's own time may lie outside its key's life: clocks of two processes and a change under way.
    static let toleranceMicroseconds: Int64 = 60_000_000

    public init(_ keys: [PublicSigningKey]) {
        self.keys = Dictionary(keys.map { ($0.id, $0) }) { first, _ in first }
    }

    /// - Throws: why the signature proves nothing.
    public func check(_ head: SignedHead) throws(ProofFailure) {
        let key = try key(head.keyID)
        try Self.check("head", signedAt: head.signedAt, within: key)
        let form = head.chain.headForm(
            sequence: head.sequence, hash: head.hash, signedAt: head.signedAt, keyID: head.keyID)
        try check(head.signature, over: form, by: key)
    }

    /// - Parameter what: was signed, for the failure's text.
    static func check(
        _ what: StaticString, signedAt instant: Timestamp, within key: PublicSigningKey
    ) throws(ProofFailure) {
        guard instant.microsecondsSince1970 >= key.createdAt.microsecondsSince1970 &- toleranceMicroseconds else {
            throw ProofFailure("the \(what)'s time is before its key \(key.id) was made")
        }
        if let end = key.retiredAt, instant.microsecondsSince1970 > end.microsecondsSince1970 &+ toleranceMicroseconds {
            throw ProofFailure("the \(what)'s time is after its key \(key.id) was retired")
        }
    }

    func key(_ id: SigningKeyID) throws(ProofFailure) -> PublicSigningKey {
        guard let key = keys[id] else { throw ProofFailure("the key \(id) is not among the keys") }
        guard SigningKeyID(of: key.publicKey) == id else {
            throw ProofFailure("the key \(id) has another key's name")
        }
        guard key.state != .compromised else { throw ProofFailure("the key \(id) is marked as compromised") }
        return key
    }

    func check(_ signature: [UInt8], over message: [UInt8], by key: PublicSigningKey) throws(ProofFailure) {
        guard let verifier = try? Curve25519.Signing.PublicKey(rawRepresentation: key.publicKey),
            verifier.isValidSignature(signature, for: message)
        else { throw ProofFailure("the signature of the key \(key.id) does not hold") }
    }
}

/// Why something is not proved, in words for a person.
public struct ProofFailure: Error, Sendable, CustomStringConvertible {
    public let reason: String

    public init(_ reason: String) { self.reason = reason }

    public var description: String { reason }
}
