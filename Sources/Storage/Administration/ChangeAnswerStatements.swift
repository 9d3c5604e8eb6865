public import Domain
internal import PostgresDriver

extension AdministrationStore: ChangeAnswers {
    public func change(of claim: ChangeClaim) async throws(AdministrationFailure) -> KnownChange? {
        try await read(FindChange(claim: claim)).first
    }

    public func keep(_ answer: ChangeAnswer, of claim: ChangeClaim) async throws(AdministrationFailure) {
        _ = try await read(KeepChangeAnswer(claim: claim, answer: answer))
    }
}

/// Takes the key; changes nothing where it is taken.
struct ClaimChange: PostgresStatement {
    static let sql = """
        INSERT INTO admin_idempotency_keys (actor, idempotency_key, fingerprint) VALUES ($1, $2, $3)
        ON CONFLICT (actor, idempotency_key) DO NOTHING
        """
    static let parameters: [PostgresType] = [.text, .text, .bytea]

    let claim: ChangeClaim

    func bind(to binds: inout PostgresBinds) {
        binds.append(claim.actor)
        binds.append(claim.key.text)
        binds.append(claim.fingerprint)
    }
}

/// Says what was changed under a key.
struct NameChange: PostgresStatement {
    static let sql = """
        UPDATE admin_idempotency_keys SET subject_type = $3, subject_id = $4 WHERE actor = $1 AND idempotency_key = $2
        """
    static let parameters: [PostgresType] = [.text, .text, .text, .text]

    let claim: ChangeClaim
    let subjectType: String
    let subjectID: String

    func bind(to binds: inout PostgresBinds) {
        binds.append(claim.actor)
        binds.append(claim.key.text)
        binds.append(subjectType)
        binds.append(subjectID)
    }
}

struct KeepChangeAnswer: PostgresStatement {
    static let sql = """
        UPDATE admin_idempotency_keys SET status = $4, answer = $5
        WHERE actor = $1 AND idempotency_key = $2 AND fingerprint = $3 AND status IS NULL
        """
    static let parameters: [PostgresType] = [.text, .text, .bytea, .int2, .bytea]

    let claim: ChangeClaim
    let answer: ChangeAnswer

    func bind(to binds: inout PostgresBinds) {
        binds.append(claim.actor)
        binds.append(claim.key.text)
        binds.append(claim.fingerprint)
        binds.append(answer.status)
        binds.append(answer.body)
    }
}

/// A key is known until it is removed, 48 hours after its change or somewhat later.
struct FindChange: PostgresStatement {
    static let sql = """
        SELECT fingerprint, status, answer, subject_type || ' ' || subject_id, created_at < clock_timestamp() - interval '1 minute'
        FROM admin_idempotency_keys WHERE actor = $1 AND idempotency_key = $2
        """
    static let parameters: [PostgresType] = [.text, .text]
    static let columns: [PostgresType] = [.bytea, .int2, .bytea, .text, .bool]

    let claim: ChangeClaim

    func bind(to binds: inout PostgresBinds) {
        binds.append(claim.actor)
        binds.append(claim.key.text)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> KnownChange {
        let fingerprint = try row.bytes()
        let status = try row.optionalInt16()
        let body = try row.optionalBytes()
        var answer: ChangeAnswer?
        if let status, let body { answer = ChangeAnswer(status: status, body: body) }
        return KnownChange(
            fingerprint: fingerprint, answer: answer, subject: try row.optionalText(), isAnswerLost: try row.bool())
    }
}
