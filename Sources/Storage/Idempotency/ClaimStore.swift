public import Domain
public import PostgresDriver

/// Idempotency keys in PostgreSQL: the function `claim_idempotency_key` of the schema, and what keeps and ends a claim.
public struct ClaimStore: IdempotencyStore {
    private let pool: PostgresPool
    private let gatewayID: GatewayID
    private let claimMilliseconds: Int64

    /// - Parameters:
    ///   - pool: connections of the role `weir_writer`.
    ///   - claimMilliseconds: how long a claim lasts without renewal.
    public init(pool: PostgresPool, gatewayID: GatewayID, claimMilliseconds: Int64) {
        self.pool = pool
        self.gatewayID = gatewayID
        self.claimMilliseconds = claimMilliseconds
    }

    public func claim(_ claim: IdempotencyClaim, fingerprint: [UInt8]) async throws(StoreUnavailable) -> ClaimOutcome {
        let answer: ClaimKey.Answer?
        do throws(PostgresError) {
            answer = try await pool.execute(
                ClaimKey(
                    claim: claim, fingerprint: fingerprint, gatewayID: gatewayID, claimMilliseconds: claimMilliseconds)
            ).first
        } catch {
            throw StoreUnavailable(error)
        }
        switch answer?.outcome {
        case "claimed": return .claimed
        case "in_flight": return .inFlight
        case "other_request": return .otherRequest
        case "answered":
            guard let kept = answer?.kept else {
                throw StoreUnavailable(cause: "an idempotency key without its answer")
            }
            return .answered(kept)
        default: throw StoreUnavailable(cause: "an idempotency key in an unknown state")
        }
    }

    public func renew(_ claims: [IdempotencyClaim]) async throws(StoreUnavailable) {
        do throws(PostgresError) {
            _ = try await pool.execute(RenewClaims(claims: claims, claimMilliseconds: claimMilliseconds))
        } catch {
            throw StoreUnavailable(error)
        }
    }

    public func release(_ claim: IdempotencyClaim) async throws(StoreUnavailable) {
        do throws(PostgresError) {
            _ = try await pool.execute(ReleaseClaim(claim: claim))
        } catch {
            throw StoreUnavailable(error)
        }
    }
}

struct ClaimKey: PostgresStatement {
    struct Answer: Sendable {
        let outcome: String
        /// The answer that was kept, where there is one.
        let kept: KeptAnswer?
    }

    static let sql =
        "SELECT outcome, owner, status, fields, body FROM claim_idempotency_key($1, $2, $3, $4, $5, $6)"
    static let parameters: [PostgresType] = [.uuid, .text, .bytea, .uuid, .uuid, .int8]
    static let columns: [PostgresType] = [.text, .uuid, .int2, .text, .bytea]

    let claim: IdempotencyClaim
    let fingerprint: [UInt8]
    let gatewayID: GatewayID
    let claimMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(claim.tenantID.postgres)
        binds.append(claim.key.text)
        binds.append(fingerprint)
        binds.append(claim.requestID.postgres)
        binds.append(gatewayID.postgres)
        binds.append(claimMilliseconds)
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Answer {
        let outcome = try row.text()
        let owner = try row.optionalUUID()
        let status = try row.optionalInt16()
        let fields = try row.optionalText()
        let body = try row.optionalBytes()
        guard let owner, let status, let fields, let body else { return Answer(outcome: outcome, kept: nil) }
        return Answer(
            outcome: outcome,
            kept: KeptAnswer(requestID: RequestID(owner), status: Int(status), fields: fields, body: body))
    }
}

/// A claim that is being settled at this moment is passed over: nobody waits for a row here, so nobody can wait in a circle.
struct RenewClaims: PostgresStatement {
    static let sql = """
        UPDATE idempotency_keys k SET expires_at = clock_timestamp() + $4 * interval '1 millisecond'
        FROM (
            SELECT o.tenant_id, o.idempotency_key
            FROM unnest($1, $2, $3) AS c (tenant_id, idempotency_key, request_id)
            JOIN idempotency_keys o
                ON o.tenant_id = c.tenant_id AND o.idempotency_key = c.idempotency_key AND o.request_id = c.request_id
            WHERE o.state = 'claimed'
            FOR UPDATE OF o SKIP LOCKED
        ) own
        WHERE k.tenant_id = own.tenant_id AND k.idempotency_key = own.idempotency_key
        """
    static let parameters: [PostgresType] = [.uuidArray, .textArray, .uuidArray, .int8]

    let claims: [IdempotencyClaim]
    let claimMilliseconds: Int64

    func bind(to binds: inout PostgresBinds) {
        binds.append(claims.map(\.tenantID.postgres))
        binds.append(claims.map(\.key.text))
        binds.append(claims.map(\.requestID.postgres))
        binds.append(claimMilliseconds)
    }
}

struct ReleaseClaim: PostgresStatement {
    static let sql = """
        DELETE FROM idempotency_keys
        WHERE tenant_id = $1 AND idempotency_key = $2 AND request_id = $3 AND state = 'claimed'
        """
    static let parameters: [PostgresType] = [.uuid, .text, .uuid]

    let claim: IdempotencyClaim

    func bind(to binds: inout PostgresBinds) {
        binds.append(claim.tenantID.postgres)
        binds.append(claim.key.text)
        binds.append(claim.requestID.postgres)
    }
}
