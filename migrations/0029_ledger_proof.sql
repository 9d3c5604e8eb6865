-- The ledger's proof: keys that sign, entries in chains, signed heads; and the same for the audit log.
--
-- A sealer goes behind the settlements and gives each entry its place: nothing of this is in a settlement's transaction.

-- Heads and receipts are signed with the active one. A customer verifies with the public halves, of which none is ever removed.
CREATE TABLE signing_keys (
    -- The first eight bytes of the public key's digest, so that a name cannot be given to another key.
    key_id       text PRIMARY KEY CHECK (key_id = encode(substr(sha256(public_key), 1, 8), 'hex')),
    public_key   bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
    -- Encrypted (AES-256-GCM) under a key that follows from the server's pepper and is not in the database.
    sealed_seed  bytea NOT NULL,
    state        text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired', 'compromised')),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired_at   timestamptz,
    CHECK ((state = 'active') = (retired_at IS NULL))
);
CREATE UNIQUE INDEX one_active_signing_key ON signing_keys (state) WHERE state = 'active';
CREATE TRIGGER signing_keys_changed AFTER INSERT OR UPDATE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER signing_keys_stay BEFORE DELETE OR TRUNCATE ON signing_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Of a key only the end of its life can be written: active, then retired, and compromised from either.
CREATE FUNCTION refuse_change_of_signing_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF to_jsonb(NEW) - 'state' - 'retired_at' <> to_jsonb(OLD) - 'state' - 'retired_at'
        OR NEW.state = 'active' OR (OLD.retired_at IS NOT NULL AND NEW.retired_at IS DISTINCT FROM OLD.retired_at)
        OR (OLD.state = 'compromised' AND NEW.state <> 'compromised') THEN
        RAISE EXCEPTION 'signing key % cannot change in this way', OLD.key_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER signing_keys_immutable BEFORE UPDATE ON signing_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_signing_key();

-- The place of an entry in its tenant's chain, and the chain's hash behind it.
CREATE TABLE sealed_entries (
    tenant_id  uuid NOT NULL,
    seq        bigint NOT NULL CHECK (seq >= 1),
    entry_id   uuid NOT NULL UNIQUE,
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, seq)
);
CREATE TABLE ledger_heads (
    tenant_id  uuid NOT NULL,
    seq        bigint NOT NULL CHECK (seq >= 1),
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    signed_at  timestamptz NOT NULL,
    key_id     text NOT NULL REFERENCES signing_keys,
    signature  bytea NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (tenant_id, seq, key_id)
);

-- One chain for the audit log of the installation. The tenant is kept with the place, so that a tenant may see that of its own entries.
CREATE TABLE sealed_audit (
    seq        bigint PRIMARY KEY CHECK (seq >= 1),
    audit_id   uuid NOT NULL UNIQUE,
    tenant_id  uuid,
    hash       bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE TABLE audit_heads (
    seq        bigint NOT NULL CHECK (seq >= 1),
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    signed_at  timestamptz NOT NULL,
    key_id     text NOT NULL REFERENCES signing_keys,
    signature  bytea NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (seq, key_id)
);
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sealed_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sealed_audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- As in the ledger: what was written below the oldest running transaction is whole. Entries of before this migration share one transaction.
ALTER TABLE audit_log ADD COLUMN tx xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX audit_log_by_transaction ON audit_log (tx, audit_id);

-- All entries up to this one, in the order of their transactions and ids, are sealed.
CREATE TABLE seal_watermarks (
    chain     text PRIMARY KEY CHECK (chain IN ('ledger', 'audit')),
    tx        xid8 NOT NULL,
    entry_id  uuid NOT NULL
);
INSERT INTO seal_watermarks (chain, tx, entry_id) VALUES
    ('ledger', '0', '00000000-0000-0000-0000-000000000000'), ('audit', '0', '00000000-0000-0000-0000-000000000000');

-- Which proof of its charge an answer carries where the request says nothing.
ALTER TABLE tenants ADD COLUMN receipts text NOT NULL DEFAULT 'none' CHECK (receipts IN ('none', 'short', 'full'));

ALTER TABLE sealed_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE sealed_audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON sealed_entries FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON ledger_heads FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON sealed_audit FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY sealing ON sealed_entries TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY sealing ON ledger_heads TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY sealing ON sealed_audit TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON audit_log FOR SELECT TO weir_jobs, weir_reports USING (true);
CREATE POLICY all_rows ON sealed_entries FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON ledger_heads FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON sealed_audit FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT ON signing_keys TO weir_directory, weir_jobs;
-- All but the private half.
GRANT SELECT (key_id, public_key, state, created_at, retired_at) ON signing_keys TO weir_admin, weir_reader, weir_reports;
GRANT INSERT ON signing_keys TO weir_jobs, weir_admin;
GRANT UPDATE (state, retired_at) ON signing_keys TO weir_admin;
GRANT SELECT, INSERT ON sealed_entries, ledger_heads, sealed_audit, audit_heads TO weir_jobs;
GRANT SELECT, UPDATE ON seal_watermarks TO weir_jobs;
GRANT SELECT ON audit_log TO weir_jobs, weir_reports;
GRANT SELECT ON sealed_entries, ledger_heads, sealed_audit TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON audit_heads, seal_watermarks TO weir_admin, weir_reports;
