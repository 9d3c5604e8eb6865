internal import Domain
internal import PostgresDriver

/// What ``SettleBatch`` does, for a batch in which somebody has an idempotency key: the claim becomes the answer in the statement that charges.
///
/// A row whose claim is another attempt's by now, or gone, is left out and named in the answer, as one whose lease is lost. The condition
/// is on the claim's row itself, which taking over changes too: whichever of the two comes second sees what the first has written. A
/// batch that is sent again finds its own answers and writes them once more.
///
/// A statement of its own, because batches without such rows, nearly all, need not pay for its columns.
struct SettleClaimedBatch: PostgresStatement {
    /// Why a row was left out.
    struct Refused: Sendable {
        let requestID: RequestID
        /// Otherwise it is the lease that is lost.
        let isClaimLost: Bool
    }

    /// How long an answer can be had again is part of the API: 48 hours.
    static let sql = """
        WITH batch AS MATERIALIZED (
            SELECT * FROM unnest(\(SettleText.parameters), $37, $38, $39)
                AS b (\(SettleText.columns),
                    idempotency_key, answer_fields, answer_body)
        ), \(SettleText.fence), claimants AS MATERIALIZED (
            SELECT tenant_id, idempotency_key, request_id, http_status, answer_fields, answer_body FROM batch
            WHERE idempotency_key IS NOT NULL AND request_id NOT IN (SELECT request_id FROM refused)
        ), answered AS (
            UPDATE idempotency_keys k SET state = 'answered', http_status = c.http_status, answer_fields = c.answer_fields,
                answer_body = c.answer_body, answered_at = clock_timestamp(), expires_at = clock_timestamp() + interval '48 hours'
            FROM claimants c
            WHERE k.tenant_id = c.tenant_id AND k.idempotency_key = c.idempotency_key AND k.request_id = c.request_id
            RETURNING k.request_id
        ), disowned AS MATERIALIZED (
            SELECT request_id FROM claimants WHERE request_id NOT IN (SELECT request_id FROM answered)
        ), accepted AS MATERIALIZED (
            SELECT * FROM batch
            WHERE request_id NOT IN (SELECT request_id FROM refused) AND request_id NOT IN (SELECT request_id FROM disowned)
        ), \(SettleText.writes)
        SELECT request_id, false FROM refused UNION ALL SELECT request_id, true FROM disowned
        """
    static let parameters: [PostgresType] = SettleBatch.parameters + [.textArray, .textArray, .byteaArray]
    static let columns: [PostgresType] = [.uuid, .bool]

    let gatewayID: GatewayID
    let batch: ArraySlice<Settlement>

    func bind(to binds: inout PostgresBinds) {
        bindSettleBatch(batch, gatewayID: gatewayID, to: &binds)
        binds.appendArray(of: .text, count: batch.count) { array in
            for settlement in batch { array.append(settlement.answer?.claim.key.text) }
        }
        binds.appendArray(of: .text, count: batch.count) { array in
            for settlement in batch {
                if let fields = settlement.answer?.fields { array.appendText(fields) } else { array.appendNull() }
            }
        }
        binds.appendArray(of: .bytea, count: batch.count) { array in
            for settlement in batch { array.append(settlement.answer?.body) }
        }
    }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Refused {
        Refused(requestID: RequestID(try row.uuid()), isClaimLost: try row.bool())
    }
}
