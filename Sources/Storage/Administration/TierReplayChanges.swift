public import Domain
internal import PostgresDriver

extension AdministrationStore {
    public func recordReplay(
        _ name: TierVersionName, of offer: TierOffer, result: String, isWhole: Bool, by actor: AuditActor
    ) async throws(AdministrationFailure) -> String {
        try await change(actor) { change in
            try await change.recordReplay(name, of: offer, result: result, isWhole: isWhole)
        }
    }

    public func tierReplays(
        of name: TierVersionName, _ page: PageRequest<TierReplayID>
    ) async throws(AdministrationFailure) -> Page<TierReplayRow> {
        let version = try await tierVersion(name).version.id
        return try await list(ListTierReplays(tierVersionID: version, page: page), page)
    }
}

extension AdministrationTransaction {
    func recordReplay(
        _ name: TierVersionName, of offer: TierOffer, result: String, isWhole: Bool
    ) async throws -> String {
        guard try await !connection.execute(LockTier(code: name.code)).isEmpty,
            let row = try await connection.execute(FindTierVersion(name: name)).first
        else { throw Refusal.unknownTierVersion }
        guard row.version.offer == offer else {
            throw Refusal(.conflict, "Somebody changed the draft while it was replayed. Replay it again.")
        }
        let written = try await connection.execute(
            InsertTierReplay(id: newID(), tierVersionID: row.version.id, result: result, isWhole: isWhole, actor: actor)
        )
        guard let digest = written.first else {
            throw Refusal(.internalError, "Something failed on our side.", cause: "a replay was not written")
        }
        try await audit("tier.replay", "tier", name.code, before: nil, after: #"{"digest": "\#(digest)"}"#)
        return digest
    }
}

struct InsertTierReplay: PostgresStatement {
    static let sql = """
        INSERT INTO tier_replays (replay_id, tier_version_id, fingerprint, digest, result, actor, is_whole)
        SELECT $1, $2, f.fingerprint, encode(sha256(convert_to(f.fingerprint || $3, 'UTF8')), 'hex'), $3::jsonb, $4, $5
        FROM (SELECT tier_version_fingerprint($2) AS fingerprint) AS f
        RETURNING digest
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .text, .text, .bool]
    static let columns: [PostgresType] = [.text]

    let id: TierReplayID
    let tierVersionID: TierVersionID
    /// JSON.
    let result: String
    let isWhole: Bool
    let actor: AuditActor

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tierVersionID.postgres)
        binds.append(result)
        binds.append(actor.text)
        binds.append(isWhole)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> String { try row.text() }
}

/// A replay of the version as it is now, over all of the tier's bills, since the last month was over.
struct FindTierReplay: PostgresStatement {
    static let sql = """
        SELECT replay_id FROM tier_replays
        WHERE tier_version_id = $1 AND digest = $2 AND fingerprint = tier_version_fingerprint($1) AND is_whole
            AND created_at >= date_trunc('month', clock_timestamp(), 'UTC')
        LIMIT 1
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

/// Of the version as it is now, newest first.
struct ListTierReplays: PostgresStatement {
    static let sql = """
        WITH page AS (
            (SELECT replay_id FROM tier_replays
            WHERE tier_version_id = $1 AND fingerprint = tier_version_fingerprint($1) AND $3::uuid IS NULL
                AND replay_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY replay_id DESC LIMIT $4)
            UNION ALL
            (SELECT replay_id FROM tier_replays
            WHERE tier_version_id = $1 AND fingerprint = tier_version_fingerprint($1) AND replay_id > $3::uuid
            ORDER BY replay_id LIMIT $4)
        )
        SELECT r.replay_id, r.digest, r.is_whole AND r.created_at >= date_trunc('month', clock_timestamp(), 'UTC'), r.result, r.created_at
        FROM page JOIN tier_replays r ON r.replay_id = page.replay_id
        ORDER BY r.replay_id DESC
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .int8]
    static let columns: [PostgresType] = [.uuid, .text, .bool, .jsonb, .timestamptz]

    let tierVersionID: TierVersionID
    let page: PageRequest<TierReplayID>

    func bind(to binds: inout PostgresBinds) {
        binds.append(tierVersionID.postgres)
        binds.append(page.after?.postgres)
        binds.append(page.before?.postgres)
        binds.append(Int64(page.limit + 1))
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierReplayRow {
        TierReplayRow(
            id: TierReplayID(try row.uuid()), digest: try row.text(), confirms: try row.bool(),
            result: try row.jsonText(), createdAt: Timestamp(try row.timestamp()))
    }
}
