-- Exports of the ledger, deliveries of usage to Stripe, and what reconciliation found.

-- Entries whose key says nothing of when their usage occurred: corrections, jobs that waited, gateways with a wrong clock. All others lie in the
-- range of keys of their window, an hour wider at both ends, so that a window is read by the primary key and this index together.
--
-- The expression takes the upper 32 of the 48 bits of milliseconds in the key, in steps of 65.536 seconds. It is written out, here and where it is
-- asked for, because a function would be called for every entry that is written.
CREATE INDEX ledger_strays ON ledger (occurred_at)
    WHERE (occurred_at - timestamptz '1970-01-01 00:00:00+00')
        - ((get_byte(uuid_send(entry_id), 0)::bigint << 24) + (get_byte(uuid_send(entry_id), 1) << 16)
            + (get_byte(uuid_send(entry_id), 2) << 8) + get_byte(uuid_send(entry_id), 3)) * interval '65.536 seconds'
        NOT BETWEEN interval '-30 minutes' AND interval '30 minutes';

-- A text as a cell of a sheet: what a program would take for a formula begins with an apostrophe (OWASP, CSV injection).
CREATE FUNCTION export_cell(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN left(value, 1) IN ('=', '+', '-', '@', E'\t', E'\r', E'\n') THEN '''' || value ELSE value END $$;

-- A ledger entry as exports show it. With the rights of whoever reads it, so that row-level security holds.
CREATE VIEW export_entries WITH (security_invoker = true) AS
    SELECT l.entry_id, l.tenant_id, t.name AS tenant_name, l.user_id, l.key_id, l.request_id, l.kind, l.model, l.model_version,
        l.tier_version_id, l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens, l.token_source, l.occurred_at, l.posted_at, l.tx
    FROM ledger l LEFT JOIN tenants t ON t.tenant_id = l.tenant_id;
REVOKE ALL ON export_entries FROM PUBLIC;
GRANT SELECT ON export_entries TO weir_reader, weir_reports;

-- An export that is written to parts. What belongs to it is fixed when it is made: the entries that occurred in the window and were written by
-- the transactions from_position <= tx < to_position, all of which were over then. So whoever writes it writes the same.
CREATE TABLE exports (
    export_id       uuid PRIMARY KEY,
    -- NULL: all tenants.
    tenant_id       uuid REFERENCES tenants,
    format          text NOT NULL CHECK (format IN ('csv', 'jsonl', 'cloudevents', 'focus')),
    granularity     text NOT NULL CHECK (granularity IN ('entries', 'hour', 'day', 'month')),
    window_start    timestamptz NOT NULL,
    window_end      timestamptz NOT NULL,
    is_incremental  boolean NOT NULL,
    from_position   xid8 NOT NULL,
    to_position     xid8 NOT NULL,
    part_rows       integer NOT NULL CHECK (part_rows BETWEEN 1 AND 10000000),
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    -- The fence: what a slower process says under an earlier number counts no more.
    attempt         integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- Attempts since the last whole part.
    tries           integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    -- Of one that is queued or running: when a process may take it.
    due_at          timestamptz DEFAULT clock_timestamp(),
    parts           integer NOT NULL DEFAULT 0,
    row_count       bigint NOT NULL DEFAULT 0,
    byte_count      bigint NOT NULL DEFAULT 0,
    -- The last entry of the last whole part.
    reached         uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    error           text CHECK (length(error) <= 500),
    -- The commit point: an export without it is not whole.
    manifest        text,
    created_by      text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz,
    -- From then on the parts are gone; the manifest stays.
    expires_at      timestamptz,
    CHECK (window_end > window_start),
    CHECK (from_position <= to_position),
    CHECK (NOT is_incremental OR granularity = 'entries' AND format <> 'focus'),
    CONSTRAINT exports_state CHECK (CASE state
        WHEN 'queued' THEN due_at IS NOT NULL AND num_nonnulls(manifest, finished_at, error) = 0
        WHEN 'running' THEN num_nulls(due_at, started_at) = 0 AND num_nonnulls(manifest, finished_at, error) = 0
        WHEN 'completed' THEN num_nulls(manifest, finished_at, expires_at) = 0 AND num_nonnulls(due_at, error) = 0
        WHEN 'failed' THEN num_nulls(error, finished_at) = 0 AND num_nonnulls(due_at, manifest) = 0
        ELSE finished_at IS NOT NULL AND num_nonnulls(due_at, manifest) = 0 END)
);
CREATE INDEX exports_due ON exports (due_at) WHERE state IN ('queued', 'running');
CREATE INDEX exports_expiring ON exports (expires_at) WHERE expires_at IS NOT NULL;
-- Two at once would both begin where the last one ended.
CREATE UNIQUE INDEX one_incremental_export ON exports (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), format)
    WHERE is_incremental AND state IN ('queued', 'running');
CREATE INDEX incremental_exports ON exports (format, to_position) WHERE is_incremental AND state = 'completed';

CREATE TABLE export_parts (
    export_id            uuid NOT NULL REFERENCES exports ON DELETE CASCADE,
    part                 integer NOT NULL CHECK (part >= 1),
    -- Which attempt's pieces it is made of.
    attempt              integer NOT NULL,
    pieces               integer NOT NULL CHECK (pieces >= 1),
    row_count            bigint NOT NULL CHECK (row_count >= 1),
    byte_count           bigint NOT NULL CHECK (byte_count >= 1),
    sha256               bytea NOT NULL CHECK (length(sha256) = 32),
    first_entry          uuid,
    last_entry           uuid,
    requests             bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    PRIMARY KEY (export_id, part)
);

CREATE TABLE export_pieces (
    export_id  uuid NOT NULL REFERENCES exports ON DELETE CASCADE,
    part       integer NOT NULL,
    attempt    integer NOT NULL,
    position   integer NOT NULL CHECK (position >= 0),
    content    bytea NOT NULL CHECK (length(content) BETWEEN 1 AND 4194304),
    PRIMARY KEY (export_id, part, attempt, position)
);
-- It is text that was compressed once already where it is sent on, and is read once.
ALTER TABLE export_pieces ALTER COLUMN content SET STORAGE EXTERNAL;

-- Takes an export that is due, for p_lease_ms, and removes what an attempt before it left of a part. One that was taken too often without getting on
-- has failed.
CREATE FUNCTION claim_export(p_lease_ms bigint) RETURNS SETOF exports
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    taken exports%ROWTYPE;
BEGIN
    SELECT * INTO taken FROM exports e
        WHERE e.state IN ('queued', 'running') AND e.due_at <= clock_timestamp()
        ORDER BY e.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM export_pieces p WHERE p.export_id = taken.export_id AND p.part > taken.parts;
    IF taken.tries >= 10 THEN
        UPDATE exports e SET state = 'failed', due_at = NULL, finished_at = clock_timestamp(),
            error = 'Ten attempts at one part came to nothing. The log of the processes with the role jobs says why.'
            WHERE e.export_id = taken.export_id;
        RETURN;
    END IF;
    RETURN QUERY UPDATE exports e SET state = 'running', attempt = e.attempt + 1, tries = e.tries + 1,
        started_at = coalesce(e.started_at, clock_timestamp()), due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
        WHERE e.export_id = taken.export_id RETURNING e.*;
END
$$;

-- Keeps a piece of the part that is being written, and the claim. Answers whether the claim still held.
CREATE FUNCTION append_export_piece(
    p_export uuid, p_attempt integer, p_part integer, p_position integer, p_content bytea, p_lease_ms bigint
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE exports e SET due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
        WHERE e.export_id = p_export AND e.attempt = p_attempt AND e.state = 'running' AND e.parts = p_part - 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO export_pieces (export_id, part, attempt, position, content) VALUES (p_export, p_part, p_attempt, p_position, p_content);
    RETURN true;
END
$$;

-- A part is whole. Answers whether the claim still held.
CREATE FUNCTION finish_export_part(
    p_export uuid, p_attempt integer, p_part integer, p_pieces integer, p_rows bigint, p_bytes bigint, p_sha256 bytea, p_first uuid,
    p_last uuid, p_requests bigint, p_input bigint, p_cached bigint, p_output bigint, p_lease_ms bigint
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE exports e SET parts = p_part, row_count = e.row_count + p_rows, byte_count = e.byte_count + p_bytes,
        reached = coalesce(p_last, e.reached), tries = 0, due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
        WHERE e.export_id = p_export AND e.attempt = p_attempt AND e.state = 'running' AND e.parts = p_part - 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO export_parts (export_id, part, attempt, pieces, row_count, byte_count, sha256, first_entry, last_entry, requests,
        input_tokens, cached_input_tokens, output_tokens)
    VALUES (p_export, p_part, p_attempt, p_pieces, p_rows, p_bytes, p_sha256, p_first, p_last, p_requests, p_input, p_cached, p_output);
    RETURN true;
END
$$;

-- The manifest of what is there. It says nothing of who wrote it and when, so that the same export has the same manifest.
CREATE FUNCTION export_manifest(e exports) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT json_build_object('object', 'export_manifest', 'version', 1, 'export_id', 'exp_' || e.export_id,
        'tenant_id', e.tenant_id, 'format', e.format, 'granularity', e.granularity, 'start', rfc3339(e.window_start),
        'end', rfc3339(e.window_end), 'incremental', e.is_incremental, 'from_position', e.from_position::text,
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

-- There is no more to write: the manifest is the last that is written. Answers whether the claim still held.
CREATE FUNCTION complete_export(p_export uuid, p_attempt integer, p_keep_hours integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE exports e SET state = 'completed', due_at = NULL, finished_at = clock_timestamp(),
        expires_at = clock_timestamp() + p_keep_hours * interval '1 hour', manifest = export_manifest(e)
        WHERE e.export_id = p_export AND e.attempt = p_attempt AND e.state = 'running';
    RETURN FOUND;
END
$$;

-- It cannot be written, and another attempt would not help.
CREATE FUNCTION fail_export(p_export uuid, p_attempt integer, p_error text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE exports e SET state = 'failed', due_at = NULL, finished_at = clock_timestamp(), error = left(p_error, 500)
        WHERE e.export_id = p_export AND e.attempt = p_attempt AND e.state = 'running';
    RETURN FOUND;
END
$$;

-- Removes the pieces of exports that are past their end, or that came to none an hour ago; at most p_limit exports. Answers how many.
CREATE FUNCTION remove_expired_exports(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH old AS MATERIALIZED (
        SELECT e.export_id FROM exports e
        WHERE (e.expires_at <= clock_timestamp() OR e.state IN ('failed', 'cancelled') AND e.finished_at < clock_timestamp() - interval '1 hour')
            AND EXISTS (SELECT FROM export_pieces p WHERE p.export_id = e.export_id)
        LIMIT p_limit FOR UPDATE OF e SKIP LOCKED
    ), removed AS (
        DELETE FROM export_pieces p USING old WHERE p.export_id = old.export_id RETURNING p.export_id
    )
    SELECT count(DISTINCT export_id)::integer FROM removed
    $$;

REVOKE ALL ON FUNCTION claim_export, append_export_piece, finish_export_part, export_manifest, complete_export, fail_export,
    remove_expired_exports FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_export, append_export_piece, finish_export_part, complete_export, fail_export, remove_expired_exports
    TO weir_jobs;

-- What a completed export says stays said.
CREATE FUNCTION refuse_change_of_completed_export() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold manifests', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state = 'completed' THEN
        RAISE EXCEPTION 'export % is completed and cannot change', OLD.export_id USING ERRCODE = 'check_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER exports_immutable BEFORE UPDATE OR DELETE ON exports
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_completed_export();
CREATE TRIGGER exports_stay BEFORE TRUNCATE ON exports
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_completed_export();
CREATE TRIGGER export_parts_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON export_parts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Exports are the operator's; a customer's own streams are made of the ledger.
GRANT SELECT ON exports, export_parts, export_pieces TO weir_admin;
GRANT SELECT ON exports, export_parts, export_pieces TO weir_reports;
GRANT INSERT, UPDATE (state, due_at, finished_at) ON exports TO weir_admin;
ALTER TABLE exports ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_pieces ENABLE ROW LEVEL SECURITY;
CREATE POLICY administration ON exports TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON exports FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON export_parts FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON export_pieces FOR SELECT TO weir_admin, weir_reports USING (true);

-- Who of the tenants is a customer at Stripe, and from when on usage is sent there.
CREATE TABLE stripe_customers (
    tenant_id    uuid PRIMARY KEY REFERENCES tenants,
    -- NULL: disconnected. What was delivered stays delivered.
    customer_id  text CHECK (customer_id ~ '^[A-Za-z0-9_]{1,64}$'),
    since        timestamptz NOT NULL CHECK (since = date_trunc('hour', since, 'UTC')),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Hours of a tenant in which the ledger gained something that deliveries do not hold yet, perhaps.
CREATE TABLE stripe_windows (
    tenant_id     uuid NOT NULL REFERENCES tenants,
    window_start  timestamptz NOT NULL CHECK (window_start = date_trunc('hour', window_start, 'UTC')),
    PRIMARY KEY (tenant_id, window_start)
);

-- All entries of transactions below the position were looked at.
CREATE TABLE stripe_watermark (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    position   xid8 NOT NULL
);
INSERT INTO stripe_watermark SELECT true, position FROM rollup_watermark;

-- What is sent: for each closed hour and meter the sum, and for what became known later the difference, as a further revision. The sum over the
-- revisions is the ledger's. Stripe forgets an identifier after a day; this table does not.
CREATE TABLE stripe_deliveries (
    identifier        text PRIMARY KEY CHECK (length(identifier) BETWEEN 1 AND 100),
    tenant_id         uuid NOT NULL REFERENCES tenants,
    window_start      timestamptz NOT NULL CHECK (window_start = date_trunc('hour', window_start, 'UTC')),
    meter             text NOT NULL CHECK (meter IN ('request', 'input_token', 'cached_input_token', 'output_token')),
    revision          integer NOT NULL CHECK (revision >= 1),
    value             bigint NOT NULL CHECK (value <> 0),
    state             text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    -- Attempts that were begun; the number of one is its fence.
    attempt           integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- Of one that is pending: when it may be sent, or when another process may take it for lost.
    next_attempt_at   timestamptz DEFAULT clock_timestamp(),
    -- After a day Stripe would take the identifier for a new one, so an attempt whose end nobody knows is not repeated then.
    first_attempt_at  timestamptz,
    last_status       smallint,
    last_error        text CHECK (length(last_error) <= 200),
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at       timestamptz,
    UNIQUE (tenant_id, window_start, meter, revision),
    CHECK (CASE state WHEN 'pending' THEN next_attempt_at IS NOT NULL AND finished_at IS NULL
        ELSE next_attempt_at IS NULL AND finished_at IS NOT NULL END)
);
CREATE INDEX stripe_deliveries_due ON stripe_deliveries (next_attempt_at) WHERE state = 'pending';
CREATE INDEX stripe_deliveries_failed ON stripe_deliveries (identifier) WHERE state = 'failed';

-- What was delivered was delivered, and what a delivery says it is of does not change.
CREATE FUNCTION refuse_change_of_delivery() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF OLD.state = 'delivered' OR (OLD.identifier, OLD.tenant_id, OLD.window_start, OLD.meter, OLD.revision, OLD.value)
        IS DISTINCT FROM (NEW.identifier, NEW.tenant_id, NEW.window_start, NEW.meter, NEW.revision, NEW.value) THEN
        RAISE EXCEPTION 'delivery % cannot change', OLD.identifier USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER stripe_deliveries_immutable BEFORE UPDATE OR DELETE ON stripe_deliveries
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_delivery();
CREATE TRIGGER stripe_deliveries_stay BEFORE TRUNCATE ON stripe_deliveries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_delivery();

-- Makes a tenant a customer at Stripe. What was used since then is looked at anew.
CREATE FUNCTION connect_stripe_customer(p_tenant uuid, p_customer text, p_since timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    -- Nobody looks at new entries meanwhile, or those that come now would be looked at by neither.
    PERFORM FROM stripe_watermark FOR UPDATE;
    INSERT INTO stripe_customers AS c (tenant_id, customer_id, since) VALUES (p_tenant, p_customer, date_trunc('hour', p_since, 'UTC'))
        ON CONFLICT (tenant_id) DO UPDATE SET customer_id = p_customer, since = date_trunc('hour', p_since, 'UTC'),
            changed_at = clock_timestamp();
    INSERT INTO stripe_windows (tenant_id, window_start)
        SELECT DISTINCT u.tenant_id, date_trunc('hour', u.bucket_start, 'UTC') FROM usage u
        WHERE u.tenant_id = p_tenant AND u.bucket_start >= date_trunc('hour', p_since, 'UTC')
        ON CONFLICT DO NOTHING;
END
$$;

-- Finds the hours in which the ledger gained something, and writes the deliveries of those that are over: what the roll-up holds less what was
-- written before. Answers how many deliveries were written. One process does it at a time; another finds nothing to do.
CREATE FUNCTION plan_stripe_deliveries(p_limit integer) RETURNS integer
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
        SELECT c.tenant_id, c.window_start, m.meter, sum(m.value)::bigint AS value
        FROM closed c
        JOIN stripe_customers s ON s.tenant_id = c.tenant_id AND s.customer_id IS NOT NULL AND c.window_start >= s.since
        JOIN usage u ON u.tenant_id = c.tenant_id AND u.bucket_start >= c.window_start
            AND u.bucket_start < c.window_start + interval '1 hour'
        CROSS JOIN LATERAL (VALUES ('request', u.requests_count), ('input_token', u.input_tokens - u.cached_input_tokens),
            ('cached_input_token', u.cached_input_tokens), ('output_token', u.output_tokens)) AS m (meter, value)
        GROUP BY 1, 2, 3
    ), differences AS (
        SELECT u.tenant_id, u.window_start, u.meter, u.value - coalesce(sum(d.value), 0)::bigint AS value,
            coalesce(max(d.revision), 0) + 1 AS revision
        FROM used u LEFT JOIN stripe_deliveries d
            ON d.tenant_id = u.tenant_id AND d.window_start = u.window_start AND d.meter = u.meter
        GROUP BY u.tenant_id, u.window_start, u.meter, u.value
    ), written AS (
        INSERT INTO stripe_deliveries (identifier, tenant_id, window_start, meter, revision, value)
        SELECT tenant_id || ':' || to_char(window_start AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24"Z"') || ':' || meter || ':' || revision,
            tenant_id, window_start, meter, revision, value
        FROM differences WHERE value <> 0
        RETURNING 1
    )
    SELECT count(*)::integer INTO planned FROM written;
    RETURN planned;
END
$$;

-- Takes deliveries that are due, for one attempt each. What Stripe would no longer take is parked instead: usage of more than 35 days ago, and
-- an attempt of 23 hours ago whose end nobody knows.
CREATE FUNCTION claim_stripe_deliveries(p_limit integer, p_lease_ms bigint) RETURNS TABLE (
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
        SELECT t.identifier, t.tenant_id, c.customer_id, t.meter, t.value, t.window_start + interval '1 hour' - interval '1 second', t.attempt
        FROM taken t JOIN stripe_customers c ON c.tenant_id = t.tenant_id;
END
$$;

-- Says what became of one attempt: 'delivered', 'again' with the pause until the next, or 'failed'. Answers whether the attempt was the last one.
CREATE FUNCTION finish_stripe_delivery(
    p_identifier text, p_attempt integer, p_outcome text, p_status smallint, p_error text, p_pause_ms bigint
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE stripe_deliveries d SET last_status = p_status, last_error = left(p_error, 200),
        state = CASE p_outcome WHEN 'delivered' THEN 'delivered' WHEN 'again' THEN 'pending' ELSE 'failed' END,
        next_attempt_at = CASE p_outcome WHEN 'again' THEN clock_timestamp() + p_pause_ms * interval '1 millisecond' END,
        finished_at = CASE WHEN p_outcome <> 'again' THEN clock_timestamp() END
        WHERE d.identifier = p_identifier AND d.attempt = p_attempt AND d.state = 'pending';
    RETURN FOUND;
END
$$;

-- Sends a parked delivery anew: somebody has looked at why it was parked.
CREATE FUNCTION retry_stripe_delivery(p_identifier text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE stripe_deliveries d SET state = 'pending', next_attempt_at = clock_timestamp(), finished_at = NULL, first_attempt_at = NULL,
        last_error = NULL, last_status = NULL
        WHERE d.identifier = p_identifier AND d.state = 'failed';
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION connect_stripe_customer, plan_stripe_deliveries, claim_stripe_deliveries, finish_stripe_delivery, retry_stripe_delivery
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION plan_stripe_deliveries, claim_stripe_deliveries, finish_stripe_delivery TO weir_jobs;
GRANT EXECUTE ON FUNCTION connect_stripe_customer, retry_stripe_delivery TO weir_admin;
GRANT SELECT ON stripe_customers, stripe_deliveries, stripe_windows, stripe_watermark TO weir_admin, weir_reports;

ALTER TABLE stripe_customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE stripe_windows ENABLE ROW LEVEL SECURITY;
ALTER TABLE stripe_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON stripe_customers FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON stripe_windows FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON stripe_deliveries FOR SELECT TO weir_admin, weir_reports USING (true);

-- What comparing the books found. The findings name what they are about; there is a bounded list of them and a count of all.
CREATE TABLE reconciliations (
    reconciliation_id  uuid PRIMARY KEY,
    tenant_id          uuid REFERENCES tenants,
    window_start       timestamptz NOT NULL,
    window_end         timestamptz NOT NULL CHECK (window_end > window_start),
    difference_count   bigint NOT NULL CHECK (difference_count >= 0),
    differences        jsonb NOT NULL,
    created_by         text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    took_ms            bigint NOT NULL CHECK (took_ms >= 0)
);
CREATE TRIGGER reconciliations_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE reconciliations ENABLE ROW LEVEL SECURITY;
CREATE POLICY administration ON reconciliations TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON reconciliations TO weir_admin;
