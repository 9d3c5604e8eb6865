-- Who did what to which thing, with what it was before and after. Written in the same transaction as the change.
CREATE TABLE audit_log (
    audit_id      uuid PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor         text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    action        text NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),
    subject_type  text NOT NULL,
    subject_id    text NOT NULL,
    tenant_id     uuid,
    before        jsonb,
    after         jsonb
);
CREATE INDEX audit_log_of_tenant ON audit_log (tenant_id, audit_id);
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON audit_log FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY administration ON audit_log TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT ON audit_log TO weir_reader;
GRANT SELECT, INSERT ON audit_log TO weir_admin;
