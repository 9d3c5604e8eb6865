internal import Domain
internal import LedgerProof
internal import PostgresDriver

/// The private half comes with the active key only; no other one signs.
struct ReadSigningKeys: PostgresStatement {
    struct Key: Sendable {
        let key: PublicSigningKey
        let sealedSeed: [UInt8]?
    }

    static let sql = """
        SELECT key_id, public_key, state, created_at, retired_at, CASE WHEN state = 'active' THEN sealed_seed END
        FROM signing_keys ORDER BY created_at DESC, key_id
        """
    static let columns: [PostgresType] = [.text, .bytea, .text, .timestamptz, .timestamptz, .bytea]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Key {
        Key(key: try publicSigningKey(&row), sealedSeed: try row.optionalBytes())
    }
}

struct ListSigningKeys: PostgresStatement {
    static let sql = """
        SELECT key_id, public_key, state, created_at, retired_at FROM signing_keys ORDER BY created_at DESC, key_id
        """
    static let columns: [PostgresType] = [.text, .bytea, .text, .timestamptz, .timestamptz]

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PublicSigningKey {
        try publicSigningKey(&row)
    }
}

private func publicSigningKey(_ row: inout PostgresRow) throws(PostgresError) -> PublicSigningKey {
    guard let id = SigningKeyID(try row.text()) else { throw row.failure(0, "is no id of a signing key") }
    let publicKey = try row.bytes()
    guard let state = PublicSigningKey.State(rawValue: try row.text()) else {
        throw row.failure(2, "is no state of a signing key")
    }
    return PublicSigningKey(
        id: id, publicKey: publicKey, state: state, createdAt: Timestamp(try row.timestamp()),
        retiredAt: try row.optionalTimestamp().map { Timestamp($0) })
}

/// Makes a key the active one. Does nothing where there is one: of two processes that start together the first one's is taken.
struct InsertSigningKey: PostgresStatement {
    static let sql = """
        INSERT INTO signing_keys (key_id, public_key, sealed_seed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
        """
    static let parameters: [PostgresType] = [.text, .bytea, .bytea]

    let id: SigningKeyID
    let publicKey: [UInt8]
    let sealedSeed: [UInt8]

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.description)
        binds.append(publicKey)
        binds.append(sealedSeed)
    }
}

/// Ends the life of the active key.
struct RetireSigningKey: PostgresStatement {
    static let sql = """
        UPDATE signing_keys SET state = CASE WHEN $1 THEN 'compromised' ELSE 'retired' END, retired_at = clock_timestamp()
        WHERE state = 'active'
        RETURNING key_id
        """
    static let parameters: [PostgresType] = [.bool]
    static let columns: [PostgresType] = [.text]

    let isCompromised: Bool

    func bind(to binds: inout PostgresBinds) { binds.append(isCompromised) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// Says of a key that is in use no more that somebody else may have it.
struct DistrustSigningKey: PostgresStatement {
    static let sql = "UPDATE signing_keys SET state = 'compromised' WHERE key_id = $1 AND state = 'retired'"
    static let parameters: [PostgresType] = [.text]

    let id: SigningKeyID

    func bind(to binds: inout PostgresBinds) { binds.append(id.description) }
}

/// Keeps two rotations apart.
struct LockSigningKeys: PostgresStatement {
    static let sql = "SELECT pg_advisory_xact_lock(hashtext('weir.signing_keys'))"
}

/// A new key with its private half sealed.
struct FreshSigningKey {
    let insertion: InsertSigningKey

    /// - Returns: `nil` where the seed cannot be sealed, which never happens.
    init?(seal: SecretSeal) {
        let seed = HeadSigner.newSeed()
        guard let signer = HeadSigner(seed: seed), let sealed = seal.seal(seed, of: signer.id) else { return nil }
        insertion = InsertSigningKey(id: signer.id, publicKey: signer.publicKey, sealedSeed: sealed)
    }
}
