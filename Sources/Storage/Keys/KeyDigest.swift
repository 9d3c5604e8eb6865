internal import Crypto
public import Domain

/// Makes the digest under which a key is stored.
///
/// HMAC-SHA-256 under a server-side pepper: a key has 190 bits of entropy, so no slow hash is needed, and a stolen table is useless without
/// the pepper.
public struct KeyDigest: Sendable {
    private let pepper: SymmetricKey

    public init(pepper: [UInt8]) { self.pepper = SymmetricKey(data: pepper) }

    /// 32 bytes.
    public func callAsFunction(_ key: APIKey) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: key.text, using: pepper))
    }
}
