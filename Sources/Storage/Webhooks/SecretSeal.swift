internal import Crypto
internal import Domain

/// Encrypts the secrets of webhooks, which have to be there in clear to sign and must not be there in clear for whoever reads the database.
///
/// AES-256-GCM under a key that follows from the server's pepper (HKDF, RFC 5869) and is written nowhere. The webhook's and the tenant's ids are
/// authenticated with it, so a sealed secret cannot be moved to another webhook.
struct SecretSeal: Sendable {
    private let key: SymmetricKey

    init(pepper: [UInt8]) {
        key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: pepper), info: Array("weir webhook secrets 1".utf8),
            outputByteCount: 32)
    }

    /// - Returns: a version byte, the nonce, the ciphertext and its tag; `nil` never happens with a key of 32 bytes.
    func seal(_ secret: [UInt8], of webhookID: WebhookID, tenantID: TenantID) -> [UInt8]? {
        guard let box = try? AES.GCM.seal(secret, using: key, authenticating: Self.place(webhookID, tenantID)),
            let bytes = box.combined
        else { return nil }
        return [1] + bytes
    }

    /// - Returns: `nil` for what was sealed under another pepper, for another webhook, or changed.
    func open(_ sealed: [UInt8], of webhookID: WebhookID, tenantID: TenantID) -> [UInt8]? {
        guard sealed.first == 1, let box = try? AES.GCM.SealedBox(combined: sealed.dropFirst()),
            let secret = try? AES.GCM.open(box, using: key, authenticating: Self.place(webhookID, tenantID)),
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
