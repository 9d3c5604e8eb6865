-- What prepaid balances came to, changes of tier that gateways know ahead of time, and changes of money that can be sent again.

-- The balance when it was last worked out. Apart from the tenant, because a change of that wakes all gateways.
CREATE TABLE prepaid_balances (
    tenant_id       uuid PRIMARY KEY REFERENCES tenants,
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    balance_micros  bigint NOT NULL,
    looked_at       timestamptz NOT NULL
);
ALTER TABLE prepaid_balances ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON prepaid_balances FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY all_rows ON prepaid_balances FOR SELECT TO weir_directory, weir_reports USING (true);
CREATE POLICY administration ON prepaid_balances TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT ON prepaid_balances TO weir_reader, weir_directory, weir_reports, weir_admin;
GRANT INSERT, UPDATE ON prepaid_balances TO weir_admin;

-- A change that is due and cannot be made has failed; the audit log says why, too.
ALTER TABLE subscription_changes
    DROP CONSTRAINT subscription_changes_state_check,
    ADD CONSTRAINT subscription_changes_state_check CHECK (state IN ('scheduled', 'applied', 'cancelled', 'failed')),
    ADD COLUMN failure text CHECK (length(failure) BETWEEN 1 AND 500),
    ADD CONSTRAINT subscription_changes_failure CHECK ((state = 'failed') = (failure IS NOT NULL));

-- Gateways know a change before it is due, so that the first request behind the edge has the new price; and that a version is sold no more.
CREATE TRIGGER subscription_changes_changed AFTER INSERT OR UPDATE ON subscription_changes
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER tier_versions_changed AFTER UPDATE ON tier_versions
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE POLICY directory ON subscription_changes FOR SELECT TO weir_directory USING (true);
GRANT SELECT ON subscription_changes TO weir_directory;
-- Which stay was before the one in force.
CREATE INDEX subscriptions_by_end ON subscriptions (tenant_id, ends_at);

-- Changes of money that can be sent again: the key is written by the transaction that makes the change, the answer after it. A change whose
-- answer was lost in between is known by its subject.
CREATE TABLE admin_idempotency_keys (
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    idempotency_key  text NOT NULL CHECK (idempotency_key ~ '^[!-~]{1,255}$'),
    -- Of method, path and body.
    fingerprint      bytea NOT NULL CHECK (length(fingerprint) = 32),
    subject_type     text CHECK (length(subject_type) BETWEEN 1 AND 100),
    subject_id       text CHECK (length(subject_id) BETWEEN 1 AND 255),
    status           smallint CHECK (status BETWEEN 200 AND 299),
    answer           bytea CHECK (length(answer) <= 1048576),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (actor, idempotency_key),
    CHECK ((status IS NULL) = (answer IS NULL))
);
CREATE INDEX admin_idempotency_keys_by_age ON admin_idempotency_keys (created_at);
ALTER TABLE admin_idempotency_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY administration ON admin_idempotency_keys TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON admin_idempotency_keys TO weir_admin;
GRANT UPDATE (subject_type, subject_id, status, answer) ON admin_idempotency_keys TO weir_admin;

-- As before, and keys of the admin listener after 48 hours.
CREATE OR REPLACE FUNCTION remove_expired_idempotency_keys(p_limit integer) RETURNS integer
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
    ), old AS MATERIALIZED (
        SELECT actor, idempotency_key FROM admin_idempotency_keys WHERE created_at <= clock_timestamp() - interval '48 hours'
        ORDER BY created_at LIMIT p_limit - (SELECT count(*) FROM due) FOR UPDATE SKIP LOCKED
    ), forgotten AS (
        DELETE FROM admin_idempotency_keys k USING old WHERE k.actor = old.actor AND k.idempotency_key = old.idempotency_key
        RETURNING 1
    )
    SELECT ((SELECT count(*) FROM removed) + (SELECT count(*) FROM forgotten))::integer
    $$;
