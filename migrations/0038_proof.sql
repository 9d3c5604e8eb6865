-- What holds the books against themselves: digests of issued invoices; and what exports and deliveries to Stripe lacked for it.

-- The digest of an invoice as it was issued: its header, its lines, the usage that it charges and the credits that it draws on. What changes afterwards
-- (paid, void) is not in it. Form 1; another list of columns is another form.
CREATE FUNCTION invoice_digest(p_invoice uuid) RETURNS bytea
    LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC'
    AS $$
    SELECT sha256(convert_to(jsonb_build_array('weir.invoice.v1',
        jsonb_build_array(i.invoice_id, i.issuer, i.number, i.kind, i.corrects_invoice_id, i.tenant_id, i.period_id, i.period_start, i.period_end,
            i.time_zone, i.currency, i.subtotal_micros, i.credits_micros, i.total_micros, i.customer_name, i.issuer_name, i.issuer_address,
            i.issuer_tax_id, i.number_prefix, i.note, i.drafted_at, i.finalised_at, i.due_at, i.note_form, i.granted_micros),
        (SELECT coalesce(jsonb_agg(jsonb_build_array(l.line_number, l.kind, l.tier_version_id, l.model, l.meter, l.band, l.description, l.span_start,
                l.span_end, l.quantity_millionths::text, l.unit_price::text, l.amount_micros) ORDER BY l.line_number), '[]')
            FROM invoice_lines l WHERE l.invoice_id = i.invoice_id),
        (SELECT coalesce(jsonb_agg(jsonb_build_array(u.usage_period_start, u.tier_version_id, u.is_trial, u.model, u.requests, u.input_tokens,
                u.cached_input_tokens, u.output_tokens, u.seen::text, u.seen_before::text)
                ORDER BY u.usage_period_start, u.tier_version_id, u.is_trial, u.model COLLATE "C"), '[]')
            FROM invoice_usage u WHERE u.invoice_id = i.invoice_id),
        (SELECT coalesce(jsonb_agg(jsonb_build_array(a.grant_id, a.amount_micros) ORDER BY a.grant_id), '[]')
            FROM credit_applications a WHERE a.invoice_id = i.invoice_id))::text, 'UTF8'))
    FROM invoices i WHERE i.invoice_id = p_invoice
    $$;

-- By no foreign key: an invoice that is gone is to be missed. Invoices that were issued before this table have none.
CREATE TABLE invoice_digests (
    invoice_id    uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    issuer        text NOT NULL,
    number        bigint NOT NULL,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    sha256        bytea NOT NULL CHECK (length(sha256) = 32),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (issuer, number)
);
CREATE INDEX invoice_digests_by_period ON invoice_digests (period_start);
CREATE TRIGGER invoice_digests_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_digests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- At the end of the transaction that issues an invoice, when all of its parts are there.
CREATE FUNCTION keep_invoice_digest() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    INSERT INTO invoice_digests (invoice_id, tenant_id, issuer, number, period_start, period_end, sha256)
        SELECT i.invoice_id, i.tenant_id, i.issuer, i.number, i.period_start, i.period_end, invoice_digest(i.invoice_id)
        FROM invoices i WHERE i.invoice_id = NEW.invoice_id AND i.state <> 'draft'
        ON CONFLICT (invoice_id) DO NOTHING;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER invoices_made_are_digested AFTER INSERT ON invoices DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state <> 'draft') EXECUTE FUNCTION keep_invoice_digest();
CREATE CONSTRAINT TRIGGER invoices_issued_are_digested AFTER UPDATE ON invoices DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.state = 'draft' AND NEW.state <> 'draft') EXECUTE FUNCTION keep_invoice_digest();

REVOKE ALL ON FUNCTION invoice_digest, keep_invoice_digest FROM PUBLIC;
GRANT EXECUTE ON FUNCTION invoice_digest TO weir_reports;
ALTER TABLE invoice_digests ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON invoice_digests FOR SELECT TO weir_reports, weir_admin USING (true);
GRANT SELECT ON invoice_digests TO weir_reports, weir_admin;

-- Of an incremental export whose reader keeps the position itself: the next one that is made without a position does not begin behind it.
ALTER TABLE exports ADD COLUMN begins_where_told boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT exports_begin CHECK (is_incremental OR NOT begins_where_told);

-- Keeps an export for whoever writes it, also while nothing comes of it. Answers whether the claim still held.
CREATE FUNCTION renew_export(p_export uuid, p_attempt integer, p_lease_ms bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE exports e SET due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
        WHERE e.export_id = p_export AND e.attempt = p_attempt AND e.state = 'running';
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION renew_export FROM PUBLIC;
GRANT EXECUTE ON FUNCTION renew_export TO weir_jobs;

-- As before, and whether a window is final: it had been over for an hour, as long as invoices wait for usage that comes late (WEIR_INVOICE_GRACE). An
-- incremental export is what it is.
CREATE OR REPLACE FUNCTION export_manifest(e exports) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT json_build_object('object', 'export_manifest', 'version', 1, 'export_id', 'exp_' || e.export_id,
        'tenant_id', e.tenant_id, 'format', e.format, 'granularity', e.granularity, 'start', rfc3339(e.window_start),
        'end', rfc3339(e.window_end), 'incremental', e.is_incremental,
        'final', e.is_incremental OR e.window_end <= e.created_at - interval '1 hour', 'from_position', e.from_position::text,
        'to_position', e.to_position::text, 'rows', e.row_count, 'bytes', e.byte_count,
        'requests', coalesce(sum(p.requests), 0)::bigint, 'input_tokens', coalesce(sum(p.input_tokens), 0)::bigint,
        'cached_input_tokens', coalesce(sum(p.cached_input_tokens), 0)::bigint,
        'output_tokens', coalesce(sum(p.output_tokens), 0)::bigint,
        'parts', coalesce(json_agg(json_build_object('part', p.part, 'rows', p.row_count, 'bytes', p.byte_count,
            'sha256', encode(p.sha256, 'hex'), 'first_entry', 'led_' || p.first_entry, 'last_entry', 'led_' || p.last_entry,
            'requests', p.requests, 'input_tokens', p.input_tokens, 'cached_input_tokens', p.cached_input_tokens,
            'output_tokens', p.output_tokens) ORDER BY p.part) FILTER (WHERE p.part IS NOT NULL), '[]'::json))::text
    FROM (SELECT) one LEFT JOIN export_parts p ON p.export_id = e.export_id
    $$;
-- Whoever compares the books asks what a manifest should say.
GRANT EXECUTE ON FUNCTION export_manifest TO weir_reports;

-- A text as a cell of a sheet: what a program would take for a formula begins with an apostrophe (OWASP, CSV injection), also behind blanks and in
-- full width. The same rule as SheetText of the domain.
CREATE OR REPLACE FUNCTION export_cell(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN value ~ E'^[ \u00A0\u3000]*[=+@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20-]' THEN '''' || value ELSE value END $$;

-- A tenant that is disconnected stays a customer until an instant: what it used before is still sent.
ALTER TABLE stripe_customers
    ADD COLUMN until timestamptz CHECK (until = usage_bucket(until)),
    ADD CONSTRAINT stripe_customers_until CHECK (until IS NULL OR customer_id IS NOT NULL);
-- Whose it is: a tenant that becomes another customer later takes nothing of this along. NULL for what was written before this column.
ALTER TABLE stripe_deliveries ADD COLUMN customer_id text;

-- Makes a tenant a customer at Stripe; what was used since then is looked at anew. With NULL it is one no more from the end of this quarter of an
-- hour on, by which usage is summed.
CREATE OR REPLACE FUNCTION connect_stripe_customer(p_tenant uuid, p_customer text, p_since timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    -- Nobody looks at new entries meanwhile, or those that come now would be looked at by neither.
    PERFORM FROM stripe_watermark FOR UPDATE;
    IF p_customer IS NULL THEN
        UPDATE stripe_customers c SET until = usage_bucket(clock_timestamp()) + interval '15 minutes', changed_at = clock_timestamp()
            WHERE c.tenant_id = p_tenant AND c.customer_id IS NOT NULL AND c.until IS NULL;
        RETURN;
    END IF;
    INSERT INTO stripe_customers AS c (tenant_id, customer_id, since) VALUES (p_tenant, p_customer, date_trunc('hour', p_since, 'UTC'))
        ON CONFLICT (tenant_id) DO UPDATE SET customer_id = p_customer, since = date_trunc('hour', p_since, 'UTC'), until = NULL,
            changed_at = clock_timestamp();
    INSERT INTO stripe_windows (tenant_id, window_start)
        SELECT DISTINCT u.tenant_id, date_trunc('hour', u.bucket_start, 'UTC') FROM usage u
        WHERE u.tenant_id = p_tenant AND u.bucket_start >= date_trunc('hour', p_since, 'UTC')
        ON CONFLICT DO NOTHING;
END
$$;

-- As before, and of a tenant that was disconnected what was before that.
CREATE OR REPLACE FUNCTION plan_stripe_deliveries(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    planned integer;
BEGIN
    SELECT position INTO from_tx FROM stripe_watermark FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- As far as the roll-up is, so that the sums below hold what was found here.
    SELECT position INTO to_tx FROM rollup_watermark;
    IF to_tx > from_tx THEN
        INSERT INTO stripe_windows (tenant_id, window_start)
            SELECT DISTINCT l.tenant_id, date_trunc('hour', l.occurred_at, 'UTC')
            FROM ledger l JOIN stripe_customers c ON c.tenant_id = l.tenant_id
            WHERE l.tx >= from_tx AND l.tx < to_tx AND l.occurred_at >= c.since AND c.customer_id IS NOT NULL
                AND (c.until IS NULL OR l.occurred_at < c.until)
            ON CONFLICT DO NOTHING;
        UPDATE stripe_watermark SET position = to_tx;
    END IF;
    WITH closed AS MATERIALIZED (
        DELETE FROM stripe_windows w USING (
            SELECT d.tenant_id, d.window_start FROM stripe_windows d
            WHERE d.window_start + interval '1 hour' <= clock_timestamp() ORDER BY d.window_start LIMIT p_limit
        ) due
        WHERE w.tenant_id = due.tenant_id AND w.window_start = due.window_start
        RETURNING w.tenant_id, w.window_start
    ), used AS (
        SELECT c.tenant_id, c.window_start, s.customer_id, m.meter, sum(m.value)::bigint AS value
        FROM closed c
        JOIN stripe_customers s ON s.tenant_id = c.tenant_id AND s.customer_id IS NOT NULL AND c.window_start >= s.since
        JOIN usage u ON u.tenant_id = c.tenant_id AND u.bucket_start >= c.window_start
            AND u.bucket_start < c.window_start + interval '1 hour' AND (s.until IS NULL OR u.bucket_start < s.until)
        CROSS JOIN LATERAL (VALUES ('request', u.requests_count), ('input_token', u.input_tokens - u.cached_input_tokens),
            ('cached_input_token', u.cached_input_tokens), ('output_token', u.output_tokens)) AS m (meter, value)
        GROUP BY 1, 2, 3, 4
    ), differences AS (
        SELECT u.tenant_id, u.window_start, u.customer_id, u.meter, u.value - coalesce(sum(d.value), 0)::bigint AS value,
            coalesce(max(d.revision), 0) + 1 AS revision
        FROM used u LEFT JOIN stripe_deliveries d
            ON d.tenant_id = u.tenant_id AND d.window_start = u.window_start AND d.meter = u.meter
        GROUP BY u.tenant_id, u.window_start, u.customer_id, u.meter, u.value
    ), written AS (
        INSERT INTO stripe_deliveries (identifier, tenant_id, window_start, meter, revision, value, customer_id)
        SELECT tenant_id || ':' || to_char(window_start AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24"Z"') || ':' || meter || ':' || revision,
            tenant_id, window_start, meter, revision, value, customer_id
        FROM differences WHERE value <> 0
        RETURNING 1
    )
    SELECT count(*)::integer INTO planned FROM written;
    RETURN planned;
END
$$;

-- As before, each for the customer that it was written for.
CREATE OR REPLACE FUNCTION claim_stripe_deliveries(p_limit integer, p_lease_ms bigint) RETURNS TABLE (
    delivery text, tenant uuid, customer text, event_meter text, sent_value bigint, event_at timestamptz, attempt_now integer
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    UPDATE stripe_deliveries d SET state = 'failed', next_attempt_at = NULL, finished_at = began,
        last_error = CASE WHEN d.window_start + interval '1 hour' <= began - interval '34 days 23 hours' THEN 'too_old' ELSE 'outcome_unknown' END
        WHERE d.identifier IN (
            SELECT x.identifier FROM stripe_deliveries x WHERE x.state = 'pending' AND x.next_attempt_at <= began
                AND (x.window_start + interval '1 hour' <= began - interval '34 days 23 hours'
                    OR x.first_attempt_at <= began - interval '23 hours')
            FOR UPDATE SKIP LOCKED);
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT d.identifier FROM stripe_deliveries d JOIN stripe_customers c ON c.tenant_id = d.tenant_id AND c.customer_id IS NOT NULL
            WHERE d.state = 'pending' AND d.next_attempt_at <= began
            ORDER BY d.next_attempt_at LIMIT p_limit FOR UPDATE OF d SKIP LOCKED
        ), taken AS (
            UPDATE stripe_deliveries d SET attempt = d.attempt + 1, first_attempt_at = coalesce(d.first_attempt_at, began),
                next_attempt_at = began + p_lease_ms * interval '1 millisecond'
            FROM due WHERE d.identifier = due.identifier
            RETURNING d.*
        )
        SELECT t.identifier, t.tenant_id, coalesce(t.customer_id, c.customer_id), t.meter, t.value,
            t.window_start + interval '1 hour' - interval '1 second', t.attempt
        FROM taken t JOIN stripe_customers c ON c.tenant_id = t.tenant_id;
END
$$;

CREATE OR REPLACE FUNCTION refuse_change_of_delivery() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF OLD.state = 'delivered' OR (OLD.identifier, OLD.tenant_id, OLD.window_start, OLD.meter, OLD.revision, OLD.value, OLD.customer_id)
        IS DISTINCT FROM (NEW.identifier, NEW.tenant_id, NEW.window_start, NEW.meter, NEW.revision, NEW.value, NEW.customer_id) THEN
        RAISE EXCEPTION 'delivery % cannot change', OLD.identifier USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
