internal import Crypto
internal import Domain

/// Encrypts the secrets that have to be there in clear to sign and must not be there in clear for whoever reads the database.
///
/// AES-256-GCM under a key that follows from the server's pepper (HKDF, RFC 5869) and is written nowhere; each purpose has its own. What the
/// secret belongs to is authenticated with it, so a sealed secret cannot be moved to another place.
struct SecretSeal: Sendable {
    enum Purpose: String {
        case webhooks = "weir webhook secrets 1"
        case signingKeys = "weir signing keys 1"
    }

    private let key: SymmetricKey

    init(pepper: [UInt8], purpose: Purpose = .webhooks) {
        key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: pepper), info: Array(purpose.rawValue.utf8), outputByteCount: 32)
    }

    /// - Returns: a version byte, the nonce, the ciphertext and its tag; `nil` never happens with a key of 32 bytes.
    func seal(_ secret: [UInt8], of webhookID: WebhookID, tenantID: TenantID) -> [UInt8]? {
        seal(secret, at: Self.place(webhookID, tenantID))
    }

    /// - Returns: `nil` for what was sealed under another pepper, for another webhook, or changed.
    func open(_ sealed: [UInt8], of webhookID: WebhookID, tenantID: TenantID) -> [UInt8]? {
        open(sealed, at: Self.place(webhookID, tenantID))
    }

    func seal(_ seed: [UInt8], of keyID: SigningKeyID) -> [UInt8]? { seal(seed, at: keyID.bytes) }

    func open(_ sealed: [UInt8], of keyID: SigningKeyID) -> [UInt8]? { open(sealed, at: keyID.bytes) }

    private func seal(_ secret: [UInt8], at place: [UInt8]) -> [UInt8]? {
        guard let box = try? AES.GCM.seal(secret, using: key, authenticating: place), let bytes = box.combined
        else { return nil }
        return [1] + bytes
    }

    private func open(_ sealed: [UInt8], at place: [UInt8]) -> [UInt8]? {
        guard sealed.first == 1, let box = try? AES.GCM.SealedBox(combined: sealed.dropFirst()),
            let secret = try? AES.GCM.open(box, using: key, authenticating: place),
            !secret.isEmpty
        else { return nil }
        return Array(secret)
    }

    /// 32 bytes that nobody can guess.
    static func newSecret() -> [UInt8] {
        SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
    }

    private static func place(_ webhookID: WebhookID, _ tenantID: TenantID) -> [UInt8] {
        Array("\(tenantID) \(webhookID)".utf8)
    }
}
