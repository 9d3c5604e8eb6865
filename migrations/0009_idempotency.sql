-- Operations that a caller has named with an Idempotency-Key, and the answers of those that were charged.
--
-- A row is first a claim: one attempt, its gateway and an end by the database's clock, which the gateway moves on while the attempt lives.
-- The statement that charges the attempt turns the claim into the answer, on the condition that the attempt still owns it. So there is no
-- charge without an answer that can be sent again, no answer without its charge, and a late first owner charges nothing.
-- A row that is past its end counts as absent, whichever of the two it is: the next attempt takes it over.
CREATE TABLE idempotency_keys (
    tenant_id        uuid NOT NULL,
    idempotency_key  text COLLATE "C" NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    -- SHA-256 over the operation and the canonical body.
    fingerprint      bytea NOT NULL CHECK (length(fingerprint) = 32),
    state            text NOT NULL DEFAULT 'claimed' CHECK (state IN ('claimed', 'answered')),
    -- The attempt that owns the claim, or that was charged. It is the fence: no two attempts share it.
    request_id       uuid NOT NULL,
    gateway_id       uuid NOT NULL,
    -- How many attempts have claimed the key since it was last answered or released; above one, a gateway died or slept.
    attempt          integer NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    claimed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Of a claim: when another attempt may take over. Of an answer: when it is forgotten.
    expires_at       timestamptz NOT NULL,
    answered_at      timestamptz,
    http_status      smallint,
    -- The header fields that belong to the answer and not to the moment, as they stand in the head.
    answer_fields    text,
    answer_body      bytea,
    PRIMARY KEY (tenant_id, idempotency_key),
    CONSTRAINT idempotency_keys_state CHECK (
        CASE state
            WHEN 'claimed' THEN num_nonnulls(answered_at, http_status, answer_fields, answer_body) = 0
            ELSE num_nulls(answered_at, http_status, answer_fields, answer_body) = 0
        END)
);
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires_at);

-- Claims a key for one attempt, or says what became of it: 'claimed', 'answered' with the answer, 'in_flight', or 'other_request' when the
-- key stands for another operation or body. Claiming twice for the same attempt is claiming once.
--
-- Runs with the owner's rights: it shows the one answer that the caller proved to know by its fingerprint, and the writer may read no other.
-- The claim is not waited for on the disk. One that a crash of the database forgets charges nothing, because then nobody owns it.
CREATE FUNCTION claim_idempotency_key(
    p_tenant uuid, p_key text, p_fingerprint bytea, p_request uuid, p_gateway uuid, p_lifetime_ms bigint
) RETURNS TABLE (outcome text, owner uuid, status smallint, fields text, body bytea)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    known idempotency_keys%ROWTYPE;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- A second round is for a row that came or went between the two statements; each sees what is committed then.
    FOR round IN 1 .. 5 LOOP
        SELECT * INTO known FROM idempotency_keys k WHERE k.tenant_id = p_tenant AND k.idempotency_key = p_key;
        IF FOUND AND known.expires_at > clock_timestamp() THEN
            IF known.fingerprint <> p_fingerprint THEN
                RETURN QUERY SELECT 'other_request', NULL::uuid, NULL::smallint, NULL::text, NULL::bytea;
            ELSIF known.state = 'answered' THEN
                RETURN QUERY SELECT 'answered', known.request_id, known.http_status, known.answer_fields, known.answer_body;
            ELSE
                RETURN QUERY SELECT CASE WHEN known.request_id = p_request THEN 'claimed' ELSE 'in_flight' END, known.request_id,
                    NULL::smallint, NULL::text, NULL::bytea;
            END IF;
            RETURN;
        END IF;
        INSERT INTO idempotency_keys AS k (tenant_id, idempotency_key, fingerprint, request_id, gateway_id, expires_at)
            VALUES (p_tenant, p_key, p_fingerprint, p_request, p_gateway,
                clock_timestamp() + p_lifetime_ms * interval '1 millisecond')
            ON CONFLICT (tenant_id, idempotency_key) DO UPDATE SET
                fingerprint = EXCLUDED.fingerprint, state = 'claimed', request_id = EXCLUDED.request_id,
                gateway_id = EXCLUDED.gateway_id, attempt = CASE k.state WHEN 'claimed' THEN k.attempt + 1 ELSE 1 END,
                claimed_at = EXCLUDED.claimed_at, expires_at = EXCLUDED.expires_at,
                answered_at = NULL, http_status = NULL, answer_fields = NULL, answer_body = NULL
                WHERE k.expires_at <= clock_timestamp();
        IF FOUND THEN
            RETURN QUERY SELECT 'claimed', p_request, NULL::smallint, NULL::text, NULL::bytea;
            RETURN;
        END IF;
    END LOOP;
    RETURN QUERY SELECT 'in_flight', NULL::uuid, NULL::smallint, NULL::text, NULL::bytea;
END
$$;
REVOKE ALL ON FUNCTION claim_idempotency_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_idempotency_key TO weir_writer;

-- Removes answers that are past their end, at most p_limit of them, and answers how many. A claim stays an hour longer: its owner may be
-- late, and as long as nobody took over it may still be charged. Rows that somebody works on are left for the next time.
CREATE FUNCTION remove_expired_idempotency_keys(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH due AS MATERIALIZED (
        SELECT tenant_id, idempotency_key FROM idempotency_keys
        WHERE expires_at <= clock_timestamp() AND (state = 'answered' OR expires_at <= clock_timestamp() - interval '1 hour')
        ORDER BY expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM idempotency_keys k USING due
        WHERE k.tenant_id = due.tenant_id AND k.idempotency_key = due.idempotency_key
        RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;
REVOKE ALL ON FUNCTION remove_expired_idempotency_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION remove_expired_idempotency_keys TO weir_jobs;

-- What is kept here is a customer's result, under every retention policy: nobody reads it but through the function above.
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY owned_claims ON idempotency_keys FOR SELECT TO weir_writer USING (true);
CREATE POLICY settlement ON idempotency_keys FOR UPDATE TO weir_writer USING (true) WITH CHECK (true);
-- What was charged for is not the writer's to forget.
CREATE POLICY release ON idempotency_keys FOR DELETE TO weir_writer USING (state = 'claimed');

GRANT SELECT (tenant_id, idempotency_key, request_id, state),
    UPDATE (state, expires_at, answered_at, http_status, answer_fields, answer_body), DELETE
    ON idempotency_keys TO weir_writer;
