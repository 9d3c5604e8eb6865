-- Webhooks: where a tenant wants to be told, what happened, and what was sent of it.
--
-- What makes an event true writes the event and its deliveries in the same transaction, by triggers. So an event is never lost and none is
-- told of that did not happen. Deliveries are sent by jobs, which claim them; the number of the attempt is the fence.
--
-- A duty more:
--   weir_customer   what a customer's key changes of its own, under row-level security
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'weir_customer') THEN
        BEGIN
            CREATE ROLE weir_customer NOLOGIN NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of the same server is being migrated at this moment
        END;
    END IF;
    IF NOT pg_has_role(current_user, 'weir_customer', 'MEMBER') THEN
        EXECUTE format('GRANT weir_customer TO %I', current_user);
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO weir_customer;

CREATE TABLE webhooks (
    webhook_id         uuid PRIMARY KEY,
    tenant_id          uuid NOT NULL REFERENCES tenants,
    url                text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    description        text NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    events             text[] NOT NULL CHECK (cardinality(events) BETWEEN 1 AND 32),
    -- Encrypted (AES-256-GCM) under a key that follows from the server's pepper and is not in the database.
    sealed_secret      bytea NOT NULL,
    -- The one before it, which signs as well until its end.
    previous_secret    bytea,
    previous_until     timestamptz,
    state              text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'failing', 'disabled')),
    disabled_reason    text CHECK (disabled_reason IN ('gone', 'failing')),
    -- Of the first failed attempt since one succeeded.
    failing_since      timestamptz,
    last_delivered_at  timestamptz,
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CHECK ((state = 'disabled') = (disabled_reason IS NOT NULL))
);
CREATE INDEX webhooks_of_tenant ON webhooks (tenant_id, webhook_id);

-- What happened, once, with the body as it is sent to each webhook and at each attempt.
CREATE TABLE webhook_events (
    event_id     uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    kind         text NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    occurred_at  timestamptz NOT NULL,
    body         text NOT NULL CHECK (length(body) <= 65536)
);

-- One event for one webhook.
CREATE TABLE webhook_deliveries (
    delivery_id      uuid PRIMARY KEY,
    webhook_id       uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    event_id         uuid NOT NULL REFERENCES webhook_events,
    tenant_id        uuid NOT NULL,
    state            text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'delivered', 'failed')),
    -- Attempts that were begun. The number of one is its fence: what a slower one says of it counts no more.
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Attempts since tried_from, by which the next pause is reckoned: a delivery that is asked for anew begins a new schedule.
    tries            integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    tried_from       timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Of one that waits: when it is due. Of one that is being sent: when another process may take it for lost.
    next_attempt_at  timestamptz,
    last_attempt_at  timestamptz,
    last_status      smallint,
    last_error       text CHECK (length(last_error) <= 64),
    last_ms          integer CHECK (last_ms >= 0),
    finished_at      timestamptz,
    UNIQUE (webhook_id, event_id),
    CONSTRAINT webhook_deliveries_state CHECK (
        CASE WHEN state IN ('waiting', 'sending') THEN next_attempt_at IS NOT NULL AND finished_at IS NULL
            ELSE next_attempt_at IS NULL AND finished_at IS NOT NULL END)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE state IN ('waiting', 'sending');
CREATE INDEX webhook_deliveries_under_way ON webhook_deliveries (webhook_id) WHERE state = 'sending';
CREATE INDEX webhook_deliveries_of_webhook ON webhook_deliveries (webhook_id, delivery_id);
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX webhook_deliveries_of_event ON webhook_deliveries (event_id);

-- A UUIDv7 of this moment.
CREATE FUNCTION new_uuid7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$
    SELECT (left(lower_bound, 14) || '7' || substr(random, 16))::uuid
    FROM (SELECT uuid_lower_bound(clock_timestamp())::text AS lower_bound, gen_random_uuid()::text AS random) parts
    $$;

-- An instant as customers read it; NULL for one that never comes.
CREATE FUNCTION rfc3339(instant timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN isfinite(instant) THEN to_char(instant AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END $$;

-- Writes an event and a delivery for each webhook of the tenant that wants it; nothing where none does. The same event is written once.
--
-- Runs with the owner's rights, because whoever makes an event true need not see webhooks. It must not fail, or what made the event true
-- would fail with it: a webhook that is being removed is waited for, and then it is not there.
CREATE FUNCTION raise_webhook_event(p_tenant uuid, p_event uuid, p_kind text, p_at timestamptz, p_data json) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    wanting uuid[];
BEGIN
    wanting := ARRAY(SELECT w.webhook_id FROM webhooks w
        WHERE w.tenant_id = p_tenant AND w.state <> 'disabled' AND p_kind = ANY (w.events)
        ORDER BY w.webhook_id FOR KEY SHARE);
    IF cardinality(wanting) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO webhook_events (event_id, tenant_id, kind, occurred_at, body)
        VALUES (p_event, p_tenant, p_kind, p_at, json_build_object('id', 'evt_' || p_event, 'type', p_kind,
            'timestamp', rfc3339(p_at), 'data', p_data)::text)
        ON CONFLICT (event_id) DO NOTHING;
    INSERT INTO webhook_deliveries (delivery_id, webhook_id, event_id, tenant_id, next_attempt_at)
        SELECT new_uuid7(), w, p_event, p_tenant, clock_timestamp() FROM unnest(wanting) AS w
        ON CONFLICT (webhook_id, event_id) DO NOTHING;
END
$$;
REVOKE ALL ON FUNCTION raise_webhook_event FROM PUBLIC;

-- Use of a quota has crossed a threshold: the event's id is the same.
CREATE FUNCTION tell_of_quota_event() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    quota quotas%ROWTYPE;
BEGIN
    SELECT q.* INTO quota FROM quotas q WHERE q.quota_id = NEW.quota_id;
    PERFORM raise_webhook_event(NEW.tenant_id, NEW.event_id, 'quota.threshold', NEW.crossed_at, json_build_object(
        'object', 'quota_threshold', 'quota_id', NEW.quota_id, 'unit', quota.unit, 'frequency', quota.frequency,
        'level', CASE WHEN quota.user_id IS NOT NULL THEN 'user' WHEN quota.key_id IS NOT NULL THEN 'key' ELSE 'tenant' END,
        'mode', NEW.mode, 'threshold_percent', NEW.threshold_percent, 'used', NEW.used, 'limit', NEW.allowed,
        'period_start', rfc3339(NEW.period_start), 'period_end', rfc3339(NEW.period_end)));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION tell_of_quota_event FROM PUBLIC;
CREATE TRIGGER quota_events_are_told AFTER INSERT ON quota_events FOR EACH ROW EXECUTE FUNCTION tell_of_quota_event();

-- Takes deliveries that are due, for one attempt each: at most p_limit, at most p_per_webhook under way at one webhook, and one at a webhook
-- that fails, so that a dead one holds up no other. One that is not finished within p_lease_ms may be taken again.
--
-- A webhook that another process is claiming for is passed over, and its deliveries are counted after its row is locked. So the bound holds
-- over all processes.
CREATE FUNCTION claim_webhook_deliveries(p_limit integer, p_per_webhook integer, p_lease_ms bigint) RETURNS TABLE (
    delivery uuid, webhook uuid, tenant uuid, event uuid, attempt integer, tries_now integer, age_ms bigint, target text, secret bytea,
    previous bytea, content text
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    chosen uuid[];
BEGIN
    chosen := ARRAY(
        WITH RECURSIVE outstanding (webhook_id) AS (
            (SELECT d.webhook_id FROM webhook_deliveries d WHERE d.state IN ('waiting', 'sending') ORDER BY d.webhook_id LIMIT 1)
            UNION ALL
            SELECT (SELECT d.webhook_id FROM webhook_deliveries d
                WHERE d.state IN ('waiting', 'sending') AND d.webhook_id > o.webhook_id ORDER BY d.webhook_id LIMIT 1)
            FROM outstanding o WHERE o.webhook_id IS NOT NULL
        )
        SELECT w.webhook_id FROM outstanding o JOIN webhooks w ON w.webhook_id = o.webhook_id
        WHERE w.state <> 'disabled' AND EXISTS (SELECT FROM webhook_deliveries d
            WHERE d.webhook_id = w.webhook_id AND d.state IN ('waiting', 'sending') AND d.next_attempt_at <= began)
        ORDER BY random() LIMIT p_limit
        FOR NO KEY UPDATE OF w SKIP LOCKED);
    IF cardinality(chosen) = 0 THEN
        RETURN;
    END IF;
    began := clock_timestamp();
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT x.delivery_id FROM webhooks w CROSS JOIN LATERAL (
                SELECT d.delivery_id FROM webhook_deliveries d
                WHERE d.webhook_id = w.webhook_id AND d.state IN ('waiting', 'sending') AND d.next_attempt_at <= began
                ORDER BY d.next_attempt_at
                LIMIT greatest(0, CASE WHEN w.failing_since IS NULL THEN p_per_webhook ELSE 1 END - (
                    SELECT count(*) FROM webhook_deliveries b
                    WHERE b.webhook_id = w.webhook_id AND b.state = 'sending' AND b.next_attempt_at > began))
                FOR UPDATE SKIP LOCKED
            ) x
            WHERE w.webhook_id = ANY (chosen)
            LIMIT p_limit
        ), taken AS (
            UPDATE webhook_deliveries d SET state = 'sending', attempts = d.attempts + 1, tries = d.tries + 1, last_attempt_at = began,
                next_attempt_at = began + p_lease_ms * interval '1 millisecond'
            FROM due WHERE d.delivery_id = due.delivery_id
            RETURNING d.*
        )
        SELECT t.delivery_id, t.webhook_id, t.tenant_id, t.event_id, t.attempts, t.tries,
            (extract(epoch FROM began - t.tried_from) * 1000)::bigint, w.url, w.sealed_secret,
            CASE WHEN w.previous_until > began THEN w.previous_secret END, e.body
        FROM taken t JOIN webhooks w ON w.webhook_id = t.webhook_id JOIN webhook_events e ON e.event_id = t.event_id;
END
$$;

-- Says what became of one attempt: 'delivered', 'waiting' with the pause until the next, 'failed' for good, or 'gone' where the webhook wants
-- no more. Answers with the state of the webhook, or 'lost' where the attempt is no longer the last one and nothing was changed.
CREATE FUNCTION finish_webhook_delivery(
    p_delivery uuid, p_attempt integer, p_outcome text, p_status smallint, p_error text, p_ms integer, p_pause_ms bigint,
    p_disable_after_ms bigint
) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    hook uuid;
    now_state text;
BEGIN
    -- The webhook before the delivery, as in a claim.
    SELECT d.webhook_id INTO hook FROM webhook_deliveries d
        WHERE d.delivery_id = p_delivery AND d.attempts = p_attempt AND d.state = 'sending';
    IF p_outcome = 'delivered' THEN
        -- Not for each of them: the time is written to ten seconds.
        UPDATE webhooks w SET failing_since = NULL, last_delivered_at = clock_timestamp(),
            state = CASE w.state WHEN 'failing' THEN 'active' ELSE w.state END
            WHERE w.webhook_id = hook AND (w.failing_since IS NOT NULL OR w.last_delivered_at IS NULL
                OR w.last_delivered_at < clock_timestamp() - interval '10 seconds');
    ELSE
        UPDATE webhooks w SET failing_since = coalesce(w.failing_since, clock_timestamp()),
            state = CASE
                WHEN w.state = 'disabled' OR p_outcome = 'gone'
                    OR w.failing_since < clock_timestamp() - p_disable_after_ms * interval '1 millisecond' THEN 'disabled'
                WHEN p_outcome = 'failed' THEN 'failing'
                ELSE w.state END,
            disabled_reason = CASE
                WHEN w.state = 'disabled' THEN w.disabled_reason
                WHEN p_outcome = 'gone' THEN 'gone'
                WHEN w.failing_since < clock_timestamp() - p_disable_after_ms * interval '1 millisecond' THEN 'failing' END
            WHERE w.webhook_id = hook;
    END IF;
    SELECT w.state INTO now_state FROM webhooks w WHERE w.webhook_id = hook;
    UPDATE webhook_deliveries d SET last_status = p_status, last_error = p_error, last_ms = p_ms,
        state = CASE WHEN p_outcome = 'delivered' THEN 'delivered' WHEN p_outcome = 'waiting' AND now_state <> 'disabled' THEN 'waiting'
            ELSE 'failed' END,
        next_attempt_at = CASE WHEN p_outcome = 'waiting' AND now_state <> 'disabled'
            THEN clock_timestamp() + p_pause_ms * interval '1 millisecond' END,
        finished_at = CASE WHEN p_outcome = 'waiting' AND now_state <> 'disabled' THEN NULL ELSE clock_timestamp() END
        WHERE d.delivery_id = p_delivery AND d.attempts = p_attempt AND d.state = 'sending';
    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;
    IF now_state = 'disabled' THEN
        UPDATE webhook_deliveries d SET state = 'failed', next_attempt_at = NULL, finished_at = clock_timestamp(),
            last_error = 'webhook_disabled'
            WHERE d.webhook_id = hook AND d.state = 'waiting';
    END IF;
    RETURN now_state;
END
$$;

-- Gives up the oldest deliveries of webhooks for which more than p_keep wait, and what processes that are gone were sending to webhooks that
-- are disabled. Answers how many.
CREATE FUNCTION trim_webhook_deliveries(p_keep integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    hook uuid;
    oldest_kept uuid;
    trimmed integer;
    total integer := 0;
BEGIN
    FOR hook IN
        WITH RECURSIVE outstanding (webhook_id) AS (
            (SELECT d.webhook_id FROM webhook_deliveries d WHERE d.state IN ('waiting', 'sending') ORDER BY d.webhook_id LIMIT 1)
            UNION ALL
            SELECT (SELECT d.webhook_id FROM webhook_deliveries d
                WHERE d.state IN ('waiting', 'sending') AND d.webhook_id > o.webhook_id ORDER BY d.webhook_id LIMIT 1)
            FROM outstanding o WHERE o.webhook_id IS NOT NULL
        )
        SELECT o.webhook_id FROM outstanding o WHERE o.webhook_id IS NOT NULL
    LOOP
        -- As a claim and a finish do, so that no two wait for each other.
        PERFORM FROM webhooks w WHERE w.webhook_id = hook FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT d.delivery_id INTO oldest_kept FROM webhook_deliveries d
            WHERE d.webhook_id = hook AND d.state = 'waiting' ORDER BY d.delivery_id DESC OFFSET p_keep - 1 LIMIT 1;
        IF FOUND THEN
            UPDATE webhook_deliveries d SET state = 'failed', next_attempt_at = NULL, finished_at = clock_timestamp(),
                last_error = 'too_many_waiting'
                WHERE d.webhook_id = hook AND d.state = 'waiting' AND d.delivery_id < oldest_kept;
            GET DIAGNOSTICS trimmed = ROW_COUNT;
            total := total + trimmed;
        END IF;
        UPDATE webhook_deliveries d SET state = 'failed', next_attempt_at = NULL, finished_at = clock_timestamp(),
            last_error = 'webhook_disabled'
            FROM webhooks w
            WHERE d.webhook_id = hook AND w.webhook_id = hook AND w.state = 'disabled'
                AND (d.state = 'waiting' OR d.state = 'sending' AND d.next_attempt_at < clock_timestamp());
    END LOOP;
    RETURN total;
END
$$;

-- Removes deliveries that were finished longer ago than p_keep_hours, and events without deliveries, at most p_limit of each; answers how many
-- deliveries or events, whichever were more.
CREATE FUNCTION remove_webhook_deliveries(p_keep_hours integer, p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    deliveries integer;
    events integer;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT d.delivery_id FROM webhook_deliveries d WHERE d.finished_at < clock_timestamp() - make_interval(hours => p_keep_hours)
        ORDER BY d.finished_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM webhook_deliveries d USING old WHERE d.delivery_id = old.delivery_id;
    GET DIAGNOSTICS deliveries = ROW_COUNT;
    WITH old AS MATERIALIZED (
        SELECT e.event_id FROM webhook_events e
        WHERE e.event_id < uuid_lower_bound(clock_timestamp() - make_interval(hours => p_keep_hours))
            AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.event_id = e.event_id)
        ORDER BY e.event_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM webhook_events e USING old WHERE e.event_id = old.event_id;
    GET DIAGNOSTICS events = ROW_COUNT;
    RETURN greatest(deliveries, events);
END
$$;

ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON webhooks TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON webhook_events FOR SELECT TO weir_customer USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON webhook_deliveries TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY sending ON webhooks TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY sending ON webhook_events TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY sending ON webhook_deliveries TO weir_jobs USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, DELETE, UPDATE (sealed_secret, previous_secret, previous_until, state, disabled_reason, failing_since)
    ON webhooks TO weir_customer;
GRANT SELECT (event_id, tenant_id, kind, occurred_at) ON webhook_events TO weir_customer;
GRANT SELECT, UPDATE (state, tries, tried_from, next_attempt_at, finished_at, last_error) ON webhook_deliveries TO weir_customer;
GRANT SELECT, UPDATE (state, disabled_reason, failing_since, last_delivered_at) ON webhooks TO weir_jobs;
-- FOR UPDATE needs the right to update; the jobs change none.
GRANT SELECT, UPDATE (event_id), DELETE ON webhook_events TO weir_jobs;
GRANT SELECT, UPDATE, DELETE ON webhook_deliveries TO weir_jobs;
