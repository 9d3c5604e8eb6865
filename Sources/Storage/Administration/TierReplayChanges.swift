public import Domain
internal import PostgresDriver

extension AdministrationStore {
    public func recordReplay(
        _ name: TierVersionName, of offer: TierOffer, result: String, by actor: AuditActor
    ) async throws(AdministrationFailure) -> String {
        try await change(actor) { change in try await change.recordReplay(name, of: offer, result: result) }
    }
}

extension AdministrationTransaction {
    func recordReplay(_ name: TierVersionName, of offer: TierOffer, result: String) async throws -> String {
        guard try await !connection.execute(LockTier(code: name.code)).isEmpty,
            let row = try await connection.execute(FindTierVersion(name: name)).first
        else { throw Refusal.unknownTierVersion }
        guard row.version.offer == offer else {
            throw Refusal(.conflict, "Somebody changed the draft while it was replayed. Replay it again.")
        }
        let written = try await connection.execute(
            InsertTierReplay(id: newID(), tierVersionID: row.version.id, result: result, actor: actor))
        guard let digest = written.first else {
            throw Refusal(.internalError, "Something failed on our side.", cause: "a replay was not written")
        }
        try await audit("tier.replay", "tier", name.code, before: nil, after: #"{"digest": "\#(digest)"}"#)
        return digest
    }
}

struct InsertTierReplay: PostgresStatement {
    static let sql = """
        INSERT INTO tier_replays (replay_id, tier_version_id, fingerprint, digest, result, actor)
        SELECT $1, $2, f.fingerprint, encode(sha256(convert_to(f.fingerprint || $3, 'UTF8')), 'hex'), $3::jsonb, $4
        FROM (SELECT tier_version_fingerprint($2) AS fingerprint) AS f
        RETURNING digest
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .text, .text]
    static let columns: [PostgresType] = [.text]

    let id: Identifier<Entity.TierReplay>
    let tierVersionID: TierVersionID
    /// JSON.
    let result: String
    let actor: AuditActor

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tierVersionID.postgres)
        binds.append(result)
        binds.append(actor.text)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// A replay of the version as it is now.
struct FindTierReplay: PostgresStatement {
    static let sql = """
        SELECT replay_id FROM tier_replays
        WHERE tier_version_id = $1 AND digest = $2 AND fingerprint = tier_version_fingerprint($1) LIMIT 1
        """
    static let parameters: [PostgresType] = [.uuid, .text]
    static let columns: [PostgresType] = [.uuid]

    let tierVersionID: TierVersionID
    let digest: String

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(digest)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> PostgresUUID { try row.uuid() }
}
