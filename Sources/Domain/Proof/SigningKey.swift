/// The name of a signing key: the first eight bytes of the SHA-256 digest of its public half, so that a name cannot be given to another key.
public struct SigningKeyID: Hashable, Sendable, CustomStringConvertible {
    public let word: UInt64

    public init(word: UInt64) { self.word = word }

    /// Reads 16 hexadecimal digits in lower case.
    public init?(_ text: String) {
        guard text.utf8.count == 16, let bytes = [UInt8](hexadecimal: text) else { return nil }
        word = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    public var bytes: [UInt8] {
        stride(from: UInt64(56), through: 0, by: -8).map { UInt8(truncatingIfNeeded: word >> $0) }
    }

    public var description: String { bytes.hexadecimal }
}

/// The public half of a key that heads and receipts are signed with.
public struct PublicSigningKey: Hashable, Sendable {
    public enum State: String, Sendable, CaseIterable {
        /// Signs now. There is one.
        case active
        /// Signs no more; what it signed holds.
        case retired
        /// Somebody else may have it: nothing that it signed proves anything.
        case compromised
    }

    public let id: SigningKeyID
    /// Ed25519 (RFC 8032), 32 bytes.
    public let publicKey: [UInt8]
    public let state: State
    public let createdAt: Timestamp
    public let retiredAt: Timestamp?

    public init(
        id: SigningKeyID, publicKey: [UInt8], state: State, createdAt: Timestamp, retiredAt: Timestamp?
    ) {
        self.id = id
        self.publicKey = publicKey
        self.state = state
        self.createdAt = createdAt
        self.retiredAt = retiredAt
    }
}

/// The keys of an installation as a process needs them.
public struct SigningKeys: Sendable {
    /// Newest first.
    public let keys: [PublicSigningKey]
    /// The private half of the active one. Secret. `nil` where it cannot be opened, as with another pepper.
    public let activeSeed: [UInt8]?

    public init(keys: [PublicSigningKey], activeSeed: [UInt8]?) {
        self.keys = keys
        self.activeSeed = activeSeed
    }
}
