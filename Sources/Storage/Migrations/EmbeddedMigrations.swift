// swift-format-ignore-file
// Written by scripts/embed-migrations from migrations/. Do not edit it: edit those, then run that.

/// The schema's migrations as they stand in `migrations/`, in their order.
package enum EmbeddedMigrations {
    /// The name is the file's without its ending, as in `0001_tenancy`; the SQL is the file's text to the last byte.
    package static let all: [(name: String, sql: String)] = [
        (name: "0001_tenancy", sql: #"""
-- Who pays, who calls, what it costs: tenants, users, keys, tiers and subscriptions; and the roles by duty.
--
-- The gateway signs in as one role and takes the role of a duty in each session. A duty sees what its work needs and no more:
--   weir_writer     settlement: inserts for all tenants, moves leases, reads nothing of a customer's
--   weir_directory  authentication and routing: reads keys, tenants, tiers, quotas and routes of all tenants
--   weir_reader     a customer's own reads, under row-level security
--   weir_jobs       roll-ups, lease reaping, partitions
--   weir_admin      the control plane
--   weir_reports    reports over all tenants, read only
DO $$
DECLARE
    duty text;
BEGIN
    FOREACH duty IN ARRAY ARRAY['weir_writer', 'weir_directory', 'weir_reader', 'weir_jobs', 'weir_admin', 'weir_reports'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = duty) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', duty);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of the same server is being migrated at this moment
            END;
        END IF;
        IF NOT pg_has_role(current_user, duty, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', duty, current_user);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO weir_writer, weir_directory, weir_reader, weir_jobs, weir_admin, weir_reports;

-- The tenant of the current transaction. No setting and an emptied setting both mean: no tenant, so no rows.
CREATE FUNCTION current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('weir.tenant_id', true), '')::uuid $$;

CREATE TABLE tenants (
    tenant_id   uuid PRIMARY KEY,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    time_zone   text NOT NULL DEFAULT 'UTC' CHECK (length(time_zone) BETWEEN 1 AND 64),
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    retention   text NOT NULL DEFAULT 'none' CHECK (retention IN ('full', 'hashed', 'none')),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    user_id     uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants,
    name        text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    email       text CHECK (length(email) <= 255),
    is_active   boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, email)
);

-- An admin key belongs to the operator of the installation, not to a tenant.
CREATE TABLE api_keys (
    key_id          uuid PRIMARY KEY,
    tenant_id       uuid REFERENCES tenants,
    user_id         uuid REFERENCES users,
    public_id       text NOT NULL UNIQUE CHECK (public_id ~ '^[0-9A-Za-z]{12}$'),
    digest          bytea NOT NULL CHECK (length(digest) = 32),
    environment     text NOT NULL CHECK (environment IN ('live', 'test', 'admn')),
    last_four       text NOT NULL CHECK (length(last_four) = 4),
    name            text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    scopes          text[] NOT NULL,
    allowed_models  text[],
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    revoked_at      timestamptz,
    CHECK ((environment = 'admn') = (tenant_id IS NULL))
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, created_at);

CREATE TABLE tiers (
    code        text PRIMARY KEY CHECK (code ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tier_versions (
    tier_version_id  uuid PRIMARY KEY,
    tier_code        text NOT NULL REFERENCES tiers,
    version          integer NOT NULL CHECK (version >= 1),
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    base_fee_micros  bigint NOT NULL DEFAULT 0 CHECK (base_fee_micros >= 0),
    state            text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'retired')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    published_at     timestamptz,
    UNIQUE (tier_code, version),
    CHECK ((state = 'draft') = (published_at IS NULL))
);

-- A unit price is an exact decimal of the currency's unit with twelve places: a token may cost far less than a micro-unit.
CREATE TABLE tier_prices (
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    meter            text NOT NULL CHECK (meter IN ('request', 'input_token', 'cached_input_token', 'output_token')),
    model            text NOT NULL DEFAULT '*',
    unit_price       numeric(19, 12) NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (tier_version_id, meter, model)
);

CREATE TABLE tier_quotas (
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    unit             text NOT NULL CHECK (unit IN ('requests', 'tokens')),
    frequency        text NOT NULL
        CHECK (frequency IN ('minute', 'hour', 'day', 'week', 'month', 'quarter', 'year', 'none')),
    amount           bigint NOT NULL CHECK (amount >= 0),
    mode             text NOT NULL DEFAULT 'hard' CHECK (mode IN ('hard', 'soft')),
    PRIMARY KEY (tier_version_id, unit, frequency)
);

-- What was published is what is billed: a version that has left the draft state never changes again, but for being retired.
CREATE FUNCTION refuse_change_of_published_tier() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    subjects uuid[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold what was published', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END IF;
    -- A row that moves from one version to another changes both.
    subjects := CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.tier_version_id] WHEN 'DELETE' THEN ARRAY[OLD.tier_version_id]
        ELSE ARRAY[OLD.tier_version_id, NEW.tier_version_id] END;
    IF TG_TABLE_NAME = 'tier_versions' THEN
        IF OLD.state <> 'draft' AND NOT (TG_OP = 'UPDATE' AND OLD.state = 'published' AND NEW.state = 'retired'
            AND to_jsonb(NEW) - 'state' = to_jsonb(OLD) - 'state') THEN
            RAISE EXCEPTION 'tier version % is published and cannot change', OLD.tier_version_id USING ERRCODE = 'check_violation';
        END IF;
    ELSE
        -- Whoever publishes waits for this change, and this change for whoever publishes. The foreign key's own lock does neither.
        PERFORM FROM tier_versions v WHERE v.tier_version_id = ANY (subjects) ORDER BY v.tier_version_id FOR SHARE;
        IF EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = ANY (subjects) AND v.state <> 'draft') THEN
            RAISE EXCEPTION 'a published tier version cannot change' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER tier_versions_immutable BEFORE UPDATE OR DELETE ON tier_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_prices_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_prices
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_quotas_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_quotas
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_versions_stay BEFORE TRUNCATE ON tier_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_prices_stay BEFORE TRUNCATE ON tier_prices
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_quotas_stay BEFORE TRUNCATE ON tier_quotas
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();

CREATE TABLE subscriptions (
    subscription_id  uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants,
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    starts_at        timestamptz NOT NULL,
    ends_at          timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (ends_at > starts_at)
);
CREATE UNIQUE INDEX one_current_subscription ON subscriptions (tenant_id) WHERE ends_at IS NULL;

-- Every change of what a gateway keeps in memory increases one number. Gateways read it each second and are woken by the notification;
-- it is the only NOTIFY of the product, because a notification takes a lock on the whole database at commit.
CREATE TABLE control_generation (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    value      bigint NOT NULL
);
INSERT INTO control_generation (value) VALUES (1);

CREATE FUNCTION advance_control_generation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE control_generation SET value = value + 1;
    PERFORM pg_notify('weir_control', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER tenants_changed AFTER INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER api_keys_changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER subscriptions_changed AFTER INSERT OR UPDATE OR DELETE ON subscriptions
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscriptions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenants FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON users FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON api_keys FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON subscriptions FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY all_rows ON tenants FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON api_keys FOR SELECT TO weir_directory USING (true);
CREATE POLICY all_rows ON subscriptions FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY administration ON tenants TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON users TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON api_keys TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON subscriptions TO weir_admin USING (true) WITH CHECK (true);

GRANT SELECT ON tenants, subscriptions, tiers, tier_versions, tier_prices, tier_quotas, control_generation
    TO weir_directory, weir_reports, weir_jobs, weir_reader;
GRANT SELECT ON api_keys TO weir_directory;
GRANT SELECT (key_id, tenant_id, user_id, public_id, environment, last_four, name, scopes, allowed_models, created_at, expires_at, revoked_at)
    ON api_keys TO weir_reader;
GRANT SELECT ON users TO weir_reader;
GRANT SELECT, INSERT, UPDATE ON tenants, users, api_keys, tiers, tier_versions, subscriptions TO weir_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON tier_prices, tier_quotas TO weir_admin;
GRANT SELECT ON control_generation TO weir_admin;

"""#),
        (name: "0002_metering", sql: #"""
-- Requests, their results, and the ledger.
--
-- Requests and ledger are partitioned by month, by range of their UUIDv7 key: it is ordered by time, so the primary key stays globally
-- unique and a look-up by id touches one partition.
CREATE TABLE requests (
    request_id        uuid NOT NULL,
    tenant_id         uuid NOT NULL,
    user_id           uuid,
    key_id            uuid NOT NULL,
    gateway_id        uuid,
    model             text NOT NULL,
    model_version     text NOT NULL DEFAULT '',
    status            text NOT NULL
        CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled', 'expired')),
    http_status       smallint,
    error_code        text,
    created_at        timestamptz NOT NULL,
    completed_at      timestamptz,
    processing_us     bigint CHECK (processing_us >= 0),
    estimated_tokens  bigint CHECK (estimated_tokens >= 0),
    input_tokens      bigint CHECK (input_tokens >= 0),
    output_tokens     bigint CHECK (output_tokens >= 0),
    tier_version_id   uuid,
    cached            boolean NOT NULL DEFAULT false,
    prompt            text,
    prompt_sha256     bytea CHECK (length(prompt_sha256) = 32),
    result_id         uuid,
    PRIMARY KEY (request_id),
    CONSTRAINT requests_state CHECK (
        CASE status
            WHEN 'queued' THEN completed_at IS NULL AND error_code IS NULL
            WHEN 'processing' THEN completed_at IS NULL AND error_code IS NULL
            WHEN 'completed' THEN completed_at IS NOT NULL AND error_code IS NULL
            WHEN 'failed' THEN completed_at IS NOT NULL AND error_code IS NOT NULL
            ELSE completed_at IS NOT NULL
        END)
) PARTITION BY RANGE (request_id);
CREATE INDEX requests_by_tenant ON requests (tenant_id, request_id);

CREATE TABLE results (
    result_id    uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    content      text NOT NULL,
    token_count  bigint,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE binary_results (
    result_id   uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    content     bytea NOT NULL,
    mime_type   text NOT NULL CHECK (length(mime_type) BETWEEN 1 AND 100),
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- One entry per answered request, and one per correction. Quantities and the price version, no amounts: these are rated from them.
--
-- A usage entry's key is the request's, so that a request cannot be posted twice. tx is the transaction that wrote the entry: the roll-up
-- reads all entries below the oldest running transaction, so that its watermark cannot skip a late commit.
CREATE TABLE ledger (
    entry_id             uuid NOT NULL,
    tenant_id            uuid NOT NULL,
    user_id              uuid,
    key_id               uuid NOT NULL,
    request_id           uuid NOT NULL,
    kind                 text NOT NULL CHECK (kind IN ('usage', 'correction')),
    model                text NOT NULL,
    model_version        text NOT NULL DEFAULT '',
    tier_version_id      uuid NOT NULL,
    lease_id             uuid,
    requests             bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    token_source         text NOT NULL CHECK (token_source IN ('worker', 'counted', 'fixed', 'estimated', 'cache')),
    occurred_at          timestamptz NOT NULL,
    posted_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    tx                   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (entry_id),
    -- Far above any model, and low enough that the sums of the roll-up and of a lease cannot overflow: one that does would stop them.
    CHECK (abs(requests) <= 1000000000000 AND abs(input_tokens) <= 1000000000000 AND abs(output_tokens) <= 1000000000000),
    CHECK (kind <> 'usage' OR (entry_id = request_id AND requests = 1 AND input_tokens >= 0 AND output_tokens >= 0
        AND cached_input_tokens BETWEEN 0 AND input_tokens))
) PARTITION BY RANGE (entry_id);
CREATE INDEX ledger_by_transaction ON ledger (tx);
CREATE INDEX ledger_by_lease ON ledger (lease_id) WHERE lease_id IS NOT NULL;

-- Append-only, also for those who could do otherwise: corrections are new entries. A trigger of the parent does not watch statements that
-- name a partition, so each partition has its own.
CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The smallest UUIDv7 of an instant.
CREATE FUNCTION uuid_lower_bound(instant timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;

-- Makes the monthly partitions (UTC) from the month of p_from on, p_months of them. Partitions that are there are left alone, and a month
-- with rows in the default partition is passed over: its rows stay where they are, and the other months must not wait for that.
-- Runs with the owner's rights, because only the owner of a table may add a partition to it. A long report that reads the default partition
-- keeps it waiting, and whoever comes after it waits as well; so it does not wait for long.
CREATE FUNCTION ensure_partitions(p_from timestamptz, p_months integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
    AS $$
DECLARE
    parent text;
    first timestamptz;
    child text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('weir.ensure_partitions'));
    FOR month IN 0 .. p_months - 1 LOOP
        first := date_trunc('month', p_from) + make_interval(months => month);
        FOREACH parent IN ARRAY ARRAY['requests', 'ledger'] LOOP
            child := format('%s_y%sm%s', parent, to_char(first, 'YYYY'), to_char(first, 'MM'));
            IF to_regclass(child) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                        uuid_lower_bound(first), uuid_lower_bound(first + interval '1 month'));
                    IF parent = 'ledger' THEN
                        EXECUTE format('CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
                            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', child);
                    END IF;
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    RAISE WARNING '% cannot be made: the default partition holds rows of it', child;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION ensure_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions TO weir_jobs, weir_admin;

-- Catches what no month holds; a row in here raises an alarm.
CREATE TABLE requests_default PARTITION OF requests DEFAULT;
CREATE TABLE ledger_default PARTITION OF ledger DEFAULT;
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
SELECT ensure_partitions(now() - interval '1 month', 5);

ALTER TABLE requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE results ENABLE ROW LEVEL SECURITY;
ALTER TABLE binary_results ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON requests FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON results FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON binary_results FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON ledger FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY settlement ON requests FOR INSERT TO weir_writer WITH CHECK (true);
CREATE POLICY settlement ON results FOR INSERT TO weir_writer WITH CHECK (true);
CREATE POLICY settlement ON ledger FOR INSERT TO weir_writer WITH CHECK (true);
-- ON CONFLICT and the fence have to see which keys are there; the grants below show the writer no other column.
CREATE POLICY settled_keys ON requests FOR SELECT TO weir_writer USING (true);
CREATE POLICY settled_keys ON results FOR SELECT TO weir_writer USING (true);
CREATE POLICY settled_keys ON ledger FOR SELECT TO weir_writer USING (true);
CREATE POLICY all_rows ON requests FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON ledger FOR SELECT TO weir_jobs, weir_admin, weir_reports USING (true);

GRANT INSERT ON requests, results, ledger TO weir_writer;
GRANT SELECT (request_id) ON requests TO weir_writer;
GRANT SELECT (result_id) ON results TO weir_writer;
GRANT SELECT (entry_id, lease_id, requests, input_tokens, output_tokens) ON ledger TO weir_writer;
GRANT SELECT ON requests, results, binary_results, ledger TO weir_reader;
GRANT SELECT ON ledger TO weir_jobs, weir_admin, weir_reports;
-- All but what the customer sent.
GRANT SELECT (request_id, tenant_id, user_id, key_id, gateway_id, model, model_version, status, http_status, error_code, created_at,
    completed_at, processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, result_id)
    ON requests TO weir_admin, weir_reports;
GRANT SELECT (request_id) ON requests_default TO weir_jobs, weir_admin;
GRANT SELECT ON ledger_default TO weir_jobs, weir_admin;

"""#),
        (name: "0003_quota", sql: #"""
-- Quotas, their periods, and the leases by which gateways spend them.
--
-- For every hard quota, at every instant: settled + held <= amount. What is held is the sum of the slices of open leases. A lease is
-- closed by summing the ledger entries that name it; the ledger is the truth and no counter runs beside it.
CREATE TABLE quotas (
    quota_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants,
    unit        text NOT NULL CHECK (unit IN ('requests', 'tokens')),
    frequency   text NOT NULL
        CHECK (frequency IN ('minute', 'hour', 'day', 'week', 'month', 'quarter', 'year', 'none')),
    amount      bigint NOT NULL CHECK (amount >= 0),
    mode        text NOT NULL DEFAULT 'hard' CHECK (mode IN ('hard', 'soft')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, unit, frequency)
);
CREATE TRIGGER quotas_changed AFTER INSERT OR UPDATE OR DELETE ON quotas
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

CREATE TABLE quota_periods (
    quota_id      uuid NOT NULL REFERENCES quotas,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    tenant_id     uuid NOT NULL,
    settled       bigint NOT NULL DEFAULT 0 CHECK (settled >= 0),
    held          bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    PRIMARY KEY (quota_id, period_start),
    CHECK (period_end > period_start)
);

CREATE TABLE quota_leases (
    lease_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    gateway_id  uuid NOT NULL,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    closed_at   timestamptz,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);
CREATE INDEX quota_leases_open ON quota_leases (expires_at) WHERE state = 'open';
CREATE INDEX quota_leases_of_tenant ON quota_leases (tenant_id) WHERE state = 'open';

CREATE TABLE quota_lease_slices (
    lease_id      uuid NOT NULL REFERENCES quota_leases,
    quota_id      uuid NOT NULL,
    period_start  timestamptz NOT NULL,
    granted       bigint NOT NULL CHECK (granted >= 0),
    spent         bigint CHECK (spent >= 0),
    PRIMARY KEY (lease_id, quota_id),
    FOREIGN KEY (quota_id, period_start) REFERENCES quota_periods
);

-- Every settlement of a gateway holds this lock shared; whoever closes a lease of the gateway takes it alone, and so sums the ledger when no
-- settlement of that gateway is under way. A settlement that is sent again takes it alone as well, so that its first sending has ended.
-- The low half of a UUIDv7 is random.
CREATE FUNCTION gateway_lock(gateway uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT ('x' || right(replace(gateway::text, '-', ''), 16))::bit(64)::bigint $$;

-- Takes slices of several quotas at once, or of none.
--
-- The rows are locked in the order of their key, so that two gateways cannot wait for each other. A slice is at most a quarter of what is
-- left: near the limit slices shrink to what one request needs, and the last unit can be had from any gateway. A soft quota is granted
-- whatever is asked.
-- Answers one row per quota with what was granted; if any quota refuses, its numbers alone, with granted NULL, and nothing is taken.
CREATE FUNCTION acquire_lease(
    p_lease uuid, p_tenant uuid, p_gateway uuid, p_lifetime_ms bigint, p_quotas uuid[], p_starts timestamptz[],
    p_ends timestamptz[], p_minimums bigint[], p_wanted bigint[]
) RETURNS TABLE (quota uuid, granted bigint, amount bigint, settled bigint, held bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    entry record;
    room bigint;
    slices bigint[] := '{}';
    quotas_in_order uuid[] := '{}';
    starts_in_order timestamptz[] := '{}';
    limits bigint[] := '{}';
    settled_before bigint[] := '{}';
    held_before bigint[] := '{}';
BEGIN
    INSERT INTO quota_periods AS p (quota_id, period_start, period_end, tenant_id)
        SELECT w.quota_id, w.period_start, w.period_end, p_tenant
        FROM unnest(p_quotas, p_starts, p_ends) AS w (quota_id, period_start, period_end)
        ORDER BY w.quota_id
        ON CONFLICT DO NOTHING;
    FOR entry IN
        SELECT p.quota_id, p.period_start, p.settled, p.held, q.amount, q.mode, w.minimum, w.wanted
        FROM unnest(p_quotas, p_starts, p_minimums, p_wanted) AS w (quota_id, period_start, minimum, wanted)
        JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
        JOIN quotas q ON q.quota_id = p.quota_id AND q.tenant_id = p_tenant
        ORDER BY p.quota_id
        FOR UPDATE OF p
    LOOP
        room := entry.amount - entry.settled - entry.held;
        IF entry.mode = 'hard' AND room < entry.minimum THEN
            RETURN QUERY SELECT entry.quota_id, NULL::bigint, entry.amount, entry.settled, entry.held;
            RETURN;
        END IF;
        quotas_in_order := quotas_in_order || entry.quota_id;
        starts_in_order := starts_in_order || entry.period_start;
        slices := slices || greatest(entry.minimum, CASE entry.mode WHEN 'soft' THEN entry.wanted ELSE least(entry.wanted, room / 4) END);
        limits := limits || entry.amount;
        settled_before := settled_before || entry.settled;
        held_before := held_before || entry.held;
    END LOOP;
    IF cardinality(quotas_in_order) <> cardinality(p_quotas) THEN
        RAISE EXCEPTION 'a quota of the lease does not exist' USING ERRCODE = 'foreign_key_violation';
    END IF;
    UPDATE quota_periods p SET held = p.held + s.slice
        FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice)
        WHERE p.quota_id = s.quota_id AND p.period_start = s.period_start;
    INSERT INTO quota_leases (lease_id, tenant_id, gateway_id, expires_at)
        VALUES (p_lease, p_tenant, p_gateway, clock_timestamp() + p_lifetime_ms * interval '1 millisecond');
    INSERT INTO quota_lease_slices (lease_id, quota_id, period_start, granted)
        SELECT p_lease, s.quota_id, s.period_start, s.slice
        FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice);
    RETURN QUERY SELECT s.quota_id, s.slice, s.amount, s.settled, s.held
        FROM unnest(quotas_in_order, slices, limits, settled_before, held_before)
            AS s (quota_id, slice, amount, settled, held);
END
$$;

-- Books one open lease: what the ledger says was spent on it is settled, the rest of its slices is free again.
-- The caller has made sure that no settlement on it is under way, and that none can begin.
CREATE FUNCTION book_lease(p_lease uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE quota_lease_slices s SET spent = u.spent
        FROM (
            SELECT q.quota_id, coalesce(CASE q.unit WHEN 'requests' THEN sum(e.requests)
                ELSE sum(e.input_tokens + e.output_tokens) END, 0)::bigint AS spent
            FROM quota_lease_slices o
            JOIN quotas q ON q.quota_id = o.quota_id
            LEFT JOIN ledger e ON e.lease_id = o.lease_id
            WHERE o.lease_id = p_lease
            GROUP BY q.quota_id
        ) u
        WHERE s.lease_id = p_lease AND s.quota_id = u.quota_id;
    PERFORM 1 FROM quota_periods p JOIN quota_lease_slices s USING (quota_id, period_start)
        WHERE s.lease_id = p_lease ORDER BY p.quota_id FOR UPDATE OF p;
    UPDATE quota_periods p SET held = p.held - s.granted, settled = p.settled + s.spent
        FROM quota_lease_slices s
        WHERE s.lease_id = p_lease AND p.quota_id = s.quota_id AND p.period_start = s.period_start;
    UPDATE quota_leases SET state = 'closed', closed_at = clock_timestamp() WHERE lease_id = p_lease;
END
$$;

-- A gateway gives leases back on which it has nothing in flight. That it has stopped waiting for a settlement does not mean that the server
-- has stopped working on it, so this waits until none of that gateway is under way.
-- The periods of all the leases are locked first and in order, so that two gateways cannot wait for each other.
CREATE FUNCTION close_leases(p_gateway uuid, p_leases uuid[]) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    leases uuid[];
    lease uuid;
BEGIN
    leases := ARRAY(SELECT l.lease_id FROM quota_leases l
        WHERE l.lease_id = ANY (p_leases) AND l.gateway_id = p_gateway AND l.state = 'open' ORDER BY l.lease_id FOR UPDATE);
    IF cardinality(leases) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(gateway_lock(p_gateway));
    PERFORM FROM quota_periods p
        WHERE (p.quota_id, p.period_start) IN (
            SELECT s.quota_id, s.period_start FROM quota_lease_slices s WHERE s.lease_id = ANY (leases))
        ORDER BY p.quota_id, p.period_start FOR UPDATE;
    FOREACH lease IN ARRAY leases LOOP
        PERFORM book_lease(lease);
    END LOOP;
    RETURN cardinality(leases);
END
$$;

-- Closes one lease whose owner let it expire. Waits until no settlement of that gateway is under way; a later one sees the lease expired.
-- Answers the lease, or nothing when no lease is overdue.
CREATE FUNCTION reap_lease() RETURNS SETOF uuid
    LANGUAGE plpgsql
    AS $$
DECLARE
    overdue record;
BEGIN
    SELECT l.lease_id, l.gateway_id INTO overdue FROM quota_leases l
        WHERE l.state = 'open' AND l.expires_at < clock_timestamp()
        ORDER BY l.expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(gateway_lock(overdue.gateway_id));
        PERFORM book_lease(overdue.lease_id);
        RETURN NEXT overdue.lease_id;
    END IF;
END
$$;

ALTER TABLE quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_periods ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE quota_lease_slices ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON quotas FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON quota_periods FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON quota_leases FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
-- Seen through the lease: its own policy decides.
CREATE POLICY own_rows ON quota_lease_slices FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM quota_leases l WHERE l.lease_id = quota_lease_slices.lease_id));
CREATE POLICY leasing ON quotas FOR SELECT TO weir_writer, weir_directory, weir_jobs, weir_reports USING (true);
CREATE POLICY leasing ON quota_periods TO weir_writer, weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY leasing ON quota_leases TO weir_writer, weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY leasing ON quota_lease_slices TO weir_writer, weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY administration ON quota_lease_slices FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY administration ON quotas TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON quota_periods FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY administration ON quota_leases FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT ON quotas TO weir_writer, weir_directory, weir_jobs, weir_reports, weir_reader;
GRANT SELECT, INSERT, UPDATE ON quota_periods, quota_leases, quota_lease_slices TO weir_writer, weir_jobs;
GRANT SELECT ON quota_periods, quota_leases, quota_lease_slices TO weir_reader, weir_admin, weir_reports;
GRANT SELECT, INSERT, UPDATE ON quotas TO weir_admin;

"""#),
        (name: "0004_routing", sql: #"""
-- Which models there are and where they are served. A model is registered by its name alone; the rest has defaults.
CREATE TABLE model_registry (
    model_name                text PRIMARY KEY CHECK (model_name ~ '^[a-z0-9][a-z0-9._-]{0,127}$' AND model_name !~ '\.\.'),
    version                   text NOT NULL DEFAULT '' CHECK (length(version) <= 64),
    feature_count             integer CHECK (feature_count BETWEEN 1 AND 1000000),
    fixed_tokens_per_request  bigint NOT NULL DEFAULT 1 CHECK (fixed_tokens_per_request >= 0),
    maximum_output_tokens     bigint NOT NULL DEFAULT 64 CHECK (maximum_output_tokens >= 0),
    is_active                 boolean NOT NULL DEFAULT true,
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE routes (
    model_name  text NOT NULL CHECK (model_name ~ '^[a-z0-9][a-z0-9._-]{0,127}$'),
    address     text NOT NULL CHECK (length(address) BETWEEN 3 AND 300),
    protocol    text NOT NULL DEFAULT 'predict' CHECK (protocol IN ('oip', 'predict')),
    weight      integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    version     text NOT NULL DEFAULT '' CHECK (length(version) <= 64),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_name, address)
);

CREATE TRIGGER model_registry_changed AFTER INSERT OR UPDATE OR DELETE ON model_registry
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER routes_changed AFTER INSERT OR UPDATE OR DELETE ON routes
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

GRANT SELECT ON model_registry, routes TO weir_directory, weir_jobs, weir_reports, weir_reader;
GRANT SELECT, INSERT, UPDATE ON model_registry TO weir_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON routes TO weir_admin;

"""#),
        (name: "0005_usage", sql: #"""
-- Usage in buckets of fifteen minutes, because every time zone's midnight falls on one. It follows from the ledger, is never counted
-- beside it, and can be rebuilt at any time.
CREATE TABLE usage (
    tenant_id            uuid NOT NULL,
    bucket_start         timestamptz NOT NULL,
    key_id               uuid NOT NULL,
    model                text NOT NULL,
    tier_version_id      uuid NOT NULL,
    requests_count       bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket_start, key_id, model, tier_version_id)
);

CREATE TABLE model_usage_metrics (
    model_name     text NOT NULL,
    time_window    timestamptz NOT NULL,
    request_count  bigint NOT NULL DEFAULT 0,
    token_count    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (model_name, time_window)
);

-- All ledger entries of transactions below the position are in the roll-ups.
CREATE TABLE rollup_watermark (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    position   xid8 NOT NULL
);
INSERT INTO rollup_watermark (position) VALUES ('0');

CREATE FUNCTION usage_bucket(instant timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_bin('15 minutes', instant, timestamptz '1970-01-01 00:00:00+00') $$;

-- Moves the watermark up to the oldest transaction that still runs and adds the entries in between to the roll-ups, in one transaction.
-- Answers the number of entries added.
CREATE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    WITH fresh AS MATERIALIZED (
        SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, count(*) AS entries,
            sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
            sum(cached_input_tokens)::bigint AS cached_input_tokens, sum(output_tokens)::bigint AS output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
        GROUP BY 1, 2, 3, 4, 5
    ), by_tenant AS (
        INSERT INTO usage AS u (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens,
            cached_input_tokens, output_tokens)
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        FROM fresh ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            requests_count = u.requests_count + EXCLUDED.requests_count,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count)
        SELECT model, bucket_start, sum(requests), sum(input_tokens + output_tokens) FROM fresh GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count, token_count = m.token_count + EXCLUDED.token_count
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;

ALTER TABLE usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON usage FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY roll_up ON usage TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON usage FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON usage, model_usage_metrics TO weir_jobs;
GRANT SELECT, UPDATE ON rollup_watermark TO weir_jobs;
GRANT SELECT ON usage, rollup_watermark TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON model_usage_metrics TO weir_admin, weir_reports;

"""#),
        (name: "0006_audit", sql: #"""
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

"""#),
        (name: "0007_retired_quotas", sql: #"""
-- A tenant that changes to a tier without one of its quotas keeps the row: past periods and the audit log name it. It is retired: readers
-- leave it out, and it is soft, so that a gateway that still knows it refuses nothing because of it.
ALTER TABLE quotas ADD COLUMN retired_at timestamptz;
ALTER TABLE quotas ADD CONSTRAINT quotas_retired_are_soft CHECK (retired_at IS NULL OR mode = 'soft');

"""#),
        (name: "0008_quota_levels", sql: #"""
-- Quotas of users and keys beside those of tenants, periods that begin with a subscription, and leases that grow and shrink in place.
ALTER TABLE quotas
    ADD COLUMN user_id uuid REFERENCES users,
    ADD COLUMN key_id uuid REFERENCES api_keys,
    ADD COLUMN anchor timestamptz,
    -- What an administrator has set stays as it is when the tenant's tier changes.
    ADD COLUMN origin text NOT NULL DEFAULT 'tier' CHECK (origin IN ('tier', 'override')),
    DROP CONSTRAINT quotas_tenant_id_unit_frequency_key,
    ADD CONSTRAINT quotas_of_one_holder CHECK (user_id IS NULL OR key_id IS NULL),
    ADD CONSTRAINT quotas_once UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, key_id, unit, frequency);

ALTER TABLE tier_quotas
    ADD COLUMN alignment text NOT NULL DEFAULT 'calendar' CHECK (alignment IN ('calendar', 'subscription'));

-- More than a quota's amount in the periods that begin within this stretch of time. A raise ends by itself.
CREATE TABLE quota_raises (
    raise_id    uuid PRIMARY KEY,
    quota_id    uuid NOT NULL REFERENCES quotas,
    tenant_id   uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (ends_at > starts_at)
);
CREATE INDEX quota_raises_of_quota ON quota_raises (quota_id, ends_at);
CREATE TRIGGER quota_raises_changed AFTER INSERT OR UPDATE OR DELETE ON quota_raises
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

-- What a quota allows in the period that begins at this instant.
CREATE FUNCTION quota_limit(p_quota uuid, p_amount bigint, p_instant timestamptz) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT least(p_amount + coalesce(sum(r.amount), 0), 9223372036854775807)::bigint
    FROM quota_raises r WHERE r.quota_id = p_quota AND r.starts_at <= p_instant AND r.ends_at > p_instant
$$;

ALTER TABLE quota_raises ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON quota_raises FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY all_rows ON quota_raises FOR SELECT TO weir_writer, weir_directory, weir_reports USING (true);
CREATE POLICY administration ON quota_raises TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT ON quota_raises TO weir_writer, weir_directory, weir_reader, weir_reports;
GRANT SELECT, INSERT ON quota_raises TO weir_admin;

-- When the reaper may try a lease that it could not book, and how often it has tried.
ALTER TABLE quota_leases
    ADD COLUMN reap_after timestamptz,
    ADD COLUMN reap_attempts integer NOT NULL DEFAULT 0;

-- Makes slices of open leases of a gateway smaller by what the gateway has stopped admitting from. A lease that was closed meanwhile has
-- given everything back already.
-- Leases are locked before periods, and both in the order of their keys, as everywhere.
CREATE FUNCTION return_slices(p_gateway uuid, p_leases uuid[], p_quotas uuid[], p_amounts bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM quota_leases l WHERE l.lease_id = ANY (p_leases) ORDER BY l.lease_id FOR UPDATE;
    PERFORM FROM quota_periods p
        WHERE (p.quota_id, p.period_start) IN (
            SELECT s.quota_id, s.period_start FROM quota_lease_slices s
            JOIN unnest(p_leases, p_quotas) AS r (lease_id, quota_id) USING (lease_id, quota_id))
        ORDER BY p.quota_id, p.period_start FOR UPDATE;
    WITH given AS (
        UPDATE quota_lease_slices s SET granted = s.granted - r.amount
        FROM unnest(p_leases, p_quotas, p_amounts) AS r (lease_id, quota_id, amount)
        JOIN quota_leases l ON l.lease_id = r.lease_id AND l.gateway_id = p_gateway AND l.state = 'open'
        WHERE s.lease_id = r.lease_id AND s.quota_id = r.quota_id
        RETURNING s.quota_id, s.period_start, r.amount
    )
    UPDATE quota_periods p SET held = p.held - g.amount
        FROM (SELECT quota_id, period_start, sum(amount)::bigint AS amount FROM given GROUP BY 1, 2) g
        WHERE p.quota_id = g.quota_id AND p.period_start = g.period_start;
END
$$;

-- Takes units of several quotas at once, or of none: into a new lease, or more of what an open one has slices of. Before that it gives
-- back what the gateway returns, whatever becomes of the rest; so a request is refused only if the quota has no room even then.
--
-- The bounds of the periods come from the caller, whose calendar is the only one. If they do not contain the database's time, give or take
-- what two clocks may differ by, the caller's clock is wrong and nothing is taken: it must not open a period early, nor reopen a past one.
--
-- More than the minimum is at most a quarter of what is left, so near the limit a lease grows by what one request lacks and the last unit
-- can be had from any gateway. A soft quota is granted whatever is asked.
--
-- outcome: 'granted', a row for each quota; 'refused', the numbers of the quota that refused; 'lost', the lease to grow is not open;
-- 'elsewhen', the periods are not now. "at" is the database's time.
-- acquire_lease stays for gateways of the release before this one.
CREATE FUNCTION take_lease(
    p_lease uuid, p_is_new boolean, p_tenant uuid, p_gateway uuid, p_lifetime_ms bigint, p_quotas uuid[], p_starts timestamptz[],
    p_ends timestamptz[], p_minimums bigint[], p_wanted bigint[], p_returned_leases uuid[], p_returned_quotas uuid[],
    p_returned_amounts bigint[]
) RETURNS TABLE (outcome text, quota uuid, granted bigint, amount bigint, settled bigint, held bigint, at timestamptz)
    LANGUAGE plpgsql
    AS $$
DECLARE
    entry record;
    room bigint;
    found_quotas integer := 0;
    quotas_in_order uuid[] := '{}';
    starts_in_order timestamptz[] := '{}';
    slices bigint[] := '{}';
    limits bigint[] := '{}';
    settled_before bigint[] := '{}';
    held_before bigint[] := '{}';
BEGIN
    IF EXISTS (SELECT FROM unnest(p_starts, p_ends) AS w (period_start, period_end)
        WHERE clock_timestamp() + interval '2 seconds' < w.period_start OR clock_timestamp() - interval '2 seconds' >= w.period_end) THEN
        RETURN QUERY SELECT 'elsewhen', NULL::uuid, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, clock_timestamp();
        RETURN;
    END IF;
    PERFORM FROM quota_leases l WHERE l.lease_id = ANY (p_returned_leases || p_lease) ORDER BY l.lease_id FOR UPDATE;
    IF NOT p_is_new AND NOT EXISTS (SELECT FROM quota_leases l WHERE l.lease_id = p_lease AND l.gateway_id = p_gateway
        AND l.tenant_id = p_tenant AND l.state = 'open' AND l.expires_at > clock_timestamp()) THEN
        RETURN QUERY SELECT 'lost', NULL::uuid, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, clock_timestamp();
        RETURN;
    END IF;
    INSERT INTO quota_periods AS p (quota_id, period_start, period_end, tenant_id)
        SELECT w.quota_id, w.period_start, w.period_end, p_tenant
        FROM unnest(p_quotas, p_starts, p_ends) AS w (quota_id, period_start, period_end)
        ORDER BY w.quota_id
        ON CONFLICT DO NOTHING;
    PERFORM FROM quota_periods p
        WHERE (p.quota_id, p.period_start) IN (
            SELECT * FROM unnest(p_quotas, p_starts)
            UNION ALL
            SELECT s.quota_id, s.period_start FROM quota_lease_slices s
            JOIN unnest(p_returned_leases, p_returned_quotas) AS r (lease_id, quota_id) USING (lease_id, quota_id))
        ORDER BY p.quota_id, p.period_start FOR UPDATE;
    IF cardinality(p_returned_leases) > 0 THEN
        PERFORM return_slices(p_gateway, p_returned_leases, p_returned_quotas, p_returned_amounts);
    END IF;
    FOR entry IN
        SELECT p.quota_id, p.period_start, p.settled, p.held, quota_limit(q.quota_id, q.amount, p.period_start) AS amount, q.mode,
            w.minimum, w.wanted
        FROM unnest(p_quotas, p_starts, p_minimums, p_wanted) AS w (quota_id, period_start, minimum, wanted)
        JOIN quota_periods p ON p.quota_id = w.quota_id AND p.period_start = w.period_start
        JOIN quotas q ON q.quota_id = p.quota_id AND q.tenant_id = p_tenant
        ORDER BY p.quota_id
    LOOP
        found_quotas := found_quotas + 1;
        room := entry.amount - entry.settled - entry.held;
        IF entry.mode = 'hard' AND room < entry.minimum THEN
            RETURN QUERY SELECT 'refused', entry.quota_id, NULL::bigint, entry.amount, entry.settled, entry.held, clock_timestamp();
            RETURN;
        END IF;
        quotas_in_order := quotas_in_order || entry.quota_id;
        starts_in_order := starts_in_order || entry.period_start;
        slices := slices || greatest(entry.minimum, CASE entry.mode WHEN 'hard' THEN least(entry.wanted, room / 4) ELSE entry.wanted END);
        limits := limits || entry.amount;
        settled_before := settled_before || entry.settled;
        held_before := held_before || entry.held;
    END LOOP;
    IF found_quotas <> cardinality(p_quotas) THEN
        RAISE EXCEPTION 'a quota of the lease does not exist' USING ERRCODE = 'foreign_key_violation';
    END IF;
    UPDATE quota_periods p SET held = p.held + s.slice
        FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice)
        WHERE p.quota_id = s.quota_id AND p.period_start = s.period_start;
    IF p_is_new THEN
        INSERT INTO quota_leases (lease_id, tenant_id, gateway_id, expires_at)
            VALUES (p_lease, p_tenant, p_gateway, clock_timestamp() + p_lifetime_ms * interval '1 millisecond');
        INSERT INTO quota_lease_slices (lease_id, quota_id, period_start, granted)
            SELECT p_lease, s.quota_id, s.period_start, s.slice
            FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice);
    ELSE
        UPDATE quota_lease_slices o SET granted = o.granted + s.slice
            FROM unnest(quotas_in_order, starts_in_order, slices) AS s (quota_id, period_start, slice)
            WHERE o.lease_id = p_lease AND o.quota_id = s.quota_id AND o.period_start = s.period_start;
        GET DIAGNOSTICS found_quotas = ROW_COUNT;
        -- What a lease has not counted from its beginning it must not count at all: its closing sums all that was spent on it.
        IF found_quotas <> cardinality(p_quotas) THEN
            RAISE EXCEPTION 'the lease has no slice of a quota' USING ERRCODE = 'foreign_key_violation';
        END IF;
    END IF;
    RETURN QUERY SELECT 'granted', s.quota_id, s.slice, s.amount, s.settled, s.held, clock_timestamp()
        FROM unnest(quotas_in_order, slices, limits, settled_before, held_before)
            AS s (quota_id, slice, amount, settled, held);
END
$$;

-- Chooses a lease that its owner let expire, and puts it off: a lease that cannot be booked, for whatever reason, comes again later and
-- does not stand in the way of the others. Each attempt is put off for twice as long as the one before, up to about a minute.
-- To be committed before reap_lease(uuid).
CREATE FUNCTION claim_overdue_lease() RETURNS SETOF uuid
    LANGUAGE sql
    AS $$
    UPDATE quota_leases SET reap_attempts = reap_attempts + 1,
        reap_after = clock_timestamp() + (1 << least(reap_attempts, 6)) * interval '1 second'
    WHERE lease_id = (
        SELECT l.lease_id FROM quota_leases l
        WHERE l.state = 'open' AND l.expires_at < clock_timestamp() AND (l.reap_after IS NULL OR l.reap_after < clock_timestamp())
        ORDER BY l.expires_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING lease_id
$$;

-- Closes one lease that is overdue. Waits until no settlement of its gateway is under way; a later one sees the lease expired.
-- Answers the lease, or nothing if it is not overdue any more.
CREATE FUNCTION reap_lease(p_lease uuid) RETURNS SETOF uuid
    LANGUAGE plpgsql
    AS $$
DECLARE
    overdue record;
BEGIN
    SELECT l.lease_id, l.gateway_id INTO overdue FROM quota_leases l
        WHERE l.lease_id = p_lease AND l.state = 'open' AND l.expires_at < clock_timestamp() FOR UPDATE;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(gateway_lock(overdue.gateway_id));
        PERFORM book_lease(overdue.lease_id);
        RETURN NEXT overdue.lease_id;
    END IF;
END
$$;

"""#),
        (name: "0009_idempotency", sql: #"""
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

"""#),
        (name: "0010_rate_limits", sql: #"""
-- How fast a tenant or a key may go: requests and tokens per minute with a burst, and requests under way at once. A tier says it for its
-- subscribers; a subscription and a key may say otherwise. An override without an amount lifts the limit.
--
-- Gateways keep these in memory with the key, as they do with quotas; what is used of them is counted in Redis, never here.
CREATE TABLE tier_rate_limits (
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    scope            text NOT NULL CHECK (scope IN ('tenant', 'key')),
    unit             text NOT NULL CHECK (unit IN ('requests', 'tokens', 'concurrency')),
    amount           bigint NOT NULL CHECK (amount BETWEEN 0 AND 1000000000000),
    burst            bigint CHECK (burst BETWEEN 1 AND 1000000000000),
    PRIMARY KEY (tier_version_id, scope, unit),
    CHECK (unit <> 'concurrency' OR burst IS NULL)
);
CREATE TRIGGER tier_rate_limits_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_rate_limits
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_rate_limits_stay BEFORE TRUNCATE ON tier_rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();

-- Ends with its subscription: a tenant that changes its tier begins with that tier's limits.
CREATE TABLE subscription_rate_limits (
    subscription_id  uuid NOT NULL REFERENCES subscriptions,
    tenant_id        uuid NOT NULL REFERENCES tenants,
    scope            text NOT NULL CHECK (scope IN ('tenant', 'key')),
    unit             text NOT NULL CHECK (unit IN ('requests', 'tokens', 'concurrency')),
    amount           bigint CHECK (amount BETWEEN 0 AND 1000000000000),
    burst            bigint CHECK (burst BETWEEN 1 AND 1000000000000),
    PRIMARY KEY (subscription_id, scope, unit),
    CHECK (burst IS NULL OR unit <> 'concurrency' AND amount IS NOT NULL)
);
CREATE TRIGGER subscription_rate_limits_changed AFTER INSERT OR UPDATE OR DELETE ON subscription_rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

CREATE TABLE key_rate_limits (
    key_id     uuid NOT NULL REFERENCES api_keys,
    tenant_id  uuid NOT NULL REFERENCES tenants,
    unit       text NOT NULL CHECK (unit IN ('requests', 'tokens', 'concurrency')),
    amount     bigint CHECK (amount BETWEEN 0 AND 1000000000000),
    burst      bigint CHECK (burst BETWEEN 1 AND 1000000000000),
    PRIMARY KEY (key_id, unit),
    CHECK (burst IS NULL OR unit <> 'concurrency' AND amount IS NOT NULL)
);
CREATE TRIGGER key_rate_limits_changed AFTER INSERT OR UPDATE OR DELETE ON key_rate_limits
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

-- The limits in force for a key: its own, else its subscription's, else its tier's. One row for each that there is.
CREATE FUNCTION rate_limits_in_force(p_key uuid, p_subscription uuid, p_tier_version uuid)
    RETURNS TABLE (scope text, unit text, amount bigint, burst bigint)
    LANGUAGE sql STABLE
    AS $$
        SELECT c.scope, c.unit, c.amount, c.burst
        FROM (
            SELECT DISTINCT ON (s.scope, s.unit) s.scope, s.unit, s.amount, s.burst
            FROM (
                SELECT 'key' AS scope, k.unit, k.amount, k.burst, 1 AS rank FROM key_rate_limits k WHERE k.key_id = p_key
                UNION ALL
                SELECT o.scope, o.unit, o.amount, o.burst, 2 FROM subscription_rate_limits o WHERE o.subscription_id = p_subscription
                UNION ALL
                SELECT t.scope, t.unit, t.amount, t.burst, 3 FROM tier_rate_limits t WHERE t.tier_version_id = p_tier_version
            ) s
            ORDER BY s.scope, s.unit, s.rank
        ) c
        WHERE c.amount IS NOT NULL
    $$;

ALTER TABLE subscription_rate_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_rate_limits ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON subscription_rate_limits FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON key_rate_limits FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY all_rows ON subscription_rate_limits FOR SELECT TO weir_directory, weir_reports USING (true);
CREATE POLICY all_rows ON key_rate_limits FOR SELECT TO weir_directory, weir_reports USING (true);
CREATE POLICY administration ON subscription_rate_limits TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON key_rate_limits TO weir_admin USING (true) WITH CHECK (true);

GRANT SELECT ON tier_rate_limits, subscription_rate_limits, key_rate_limits TO weir_directory, weir_reports, weir_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON tier_rate_limits, subscription_rate_limits, key_rate_limits TO weir_admin;

"""#),
        (name: "0011_token_counting", sql: #"""
-- How a model's tokens are counted: as the worker reports them (or the fixed number where it reports none), by the gateway, as a fixed number
-- whatever is reported, or by the size of the payload. Part of what a bill rests on, so the source of every count is stored with it.
ALTER TABLE model_registry
    ADD COLUMN token_counting text NOT NULL DEFAULT 'worker' CHECK (token_counting IN ('worker', 'counted', 'fixed', 'payload')),
    ADD COLUMN bytes_per_token integer NOT NULL DEFAULT 4 CHECK (bytes_per_token BETWEEN 1 AND 1000);

"""#),
        (name: "0012_soft_limits", sql: #"""
-- Quotas that go on beyond their limit, events for the thresholds that use crosses, and what is kept to explain refusals.

-- Percentages of what a period allows, ascending; crossing one raises an event. None at all is allowed.
CREATE FUNCTION is_threshold_list(p_list smallint[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT cardinality(p_list) <= 10
        AND p_list = ARRAY(SELECT DISTINCT t FROM unnest(p_list) AS t WHERE t BETWEEN 1 AND 1000 ORDER BY t)
$$;

-- pay_as_you_go: the amount is included in the price, use beyond it goes on and is charged as overage.
ALTER TABLE quotas
    DROP CONSTRAINT quotas_mode_check,
    ADD CONSTRAINT quotas_mode_check CHECK (mode IN ('hard', 'soft', 'pay_as_you_go')),
    ADD COLUMN thresholds_percent smallint[] NOT NULL DEFAULT '{50,80,100}',
    ADD CONSTRAINT quotas_thresholds CHECK (is_threshold_list(thresholds_percent));
ALTER TABLE tier_quotas
    DROP CONSTRAINT tier_quotas_mode_check,
    ADD CONSTRAINT tier_quotas_mode_check CHECK (mode IN ('hard', 'soft', 'pay_as_you_go')),
    ADD COLUMN thresholds_percent smallint[] NOT NULL DEFAULT '{50,80,100}',
    ADD CONSTRAINT tier_quotas_thresholds CHECK (is_threshold_list(thresholds_percent));

-- What a look has seen used, once that was beyond the limit: never more than is used. Leases are told by it that the quota is exceeded.
ALTER TABLE quota_periods ADD COLUMN used_seen bigint NOT NULL DEFAULT 0 CHECK (used_seen >= 0);
CREATE INDEX quota_periods_by_end ON quota_periods (period_end);
CREATE INDEX quota_leases_closed ON quota_leases (closed_at) WHERE state = 'closed';

-- One row for each threshold that use has crossed in a period; never changed and never removed. In the order of event_id, a UUIDv7, they are
-- the feed of notifications.
CREATE TABLE quota_events (
    quota_id           uuid NOT NULL,
    period_start       timestamptz NOT NULL,
    threshold_percent  smallint NOT NULL CHECK (threshold_percent BETWEEN 1 AND 1000),
    event_id           uuid NOT NULL UNIQUE,
    tenant_id          uuid NOT NULL,
    period_end         timestamptz NOT NULL,
    crossed_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- As they were when it was seen: the mode, what was used, the quota's own amount, and that with its raises.
    mode               text NOT NULL CHECK (mode IN ('hard', 'soft', 'pay_as_you_go')),
    used               bigint NOT NULL CHECK (used > 0),
    amount             bigint NOT NULL CHECK (amount >= 0),
    allowed            bigint NOT NULL CHECK (allowed >= amount),
    PRIMARY KEY (quota_id, period_start, threshold_percent),
    FOREIGN KEY (quota_id, period_start) REFERENCES quota_periods
);
CREATE INDEX quota_events_of_tenant ON quota_events (tenant_id, event_id);

-- When use was last compared with thresholds. The row's lock lets one process look at a time.
CREATE TABLE quota_watch (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    looked_at   timestamptz NOT NULL,
    -- When all running periods were compared and not only those that leases were used in.
    swept_at    timestamptz NOT NULL,
    -- The control generation of the last look: after a change of a limit all running periods are compared.
    generation  bigint NOT NULL
);
INSERT INTO quota_watch (looked_at, swept_at, generation) VALUES ('-infinity', '-infinity', -1);

-- Gives the periods in which use may have crossed a threshold that has no event yet, with what is really used: what closed leases booked,
-- and what the ledger says was spent on open ones.
--
-- Looks at the periods of leases that are open or were closed since the last look, and at all that run, or ended within the hour, after a
-- change of limits and once in p_sweep_ms. What is spent on a lease is never more than it was granted, so settled + held bounds what is
-- used, and the ledger is read only where that bound has passed a threshold: not for each request, and not again once the event is there.
-- Looks are p_pause_ms apart, whoever makes them; a process that comes while another looks, or too soon, gets no rows.
CREATE FUNCTION look_at_quotas(p_pause_ms bigint, p_sweep_ms bigint) RETURNS TABLE (
    quota uuid, starts timestamptz, ends timestamptz, tenant uuid, how text, included bigint, allowed bigint, used bigint,
    thresholds smallint[], raised smallint[], at timestamptz
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    last quota_watch%ROWTYPE;
    now_generation bigint;
    is_sweep boolean;
BEGIN
    SELECT w.* INTO last FROM quota_watch w WHERE w.looked_at <= began - p_pause_ms * interval '1 millisecond' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT g.value INTO now_generation FROM control_generation g;
    is_sweep := now_generation <> last.generation OR last.swept_at <= began - p_sweep_ms * interval '1 millisecond';
    UPDATE quota_watch w SET looked_at = began, generation = now_generation,
        swept_at = CASE WHEN is_sweep THEN began ELSE w.swept_at END;
    RETURN QUERY
        WITH touched AS MATERIALIZED (
            SELECT s.quota_id, s.period_start FROM quota_leases l JOIN quota_lease_slices s ON s.lease_id = l.lease_id
            WHERE l.state = 'open'
            UNION
            -- A lease has its time of closing a moment before others can see that it is closed.
            SELECT s.quota_id, s.period_start FROM quota_leases l JOIN quota_lease_slices s ON s.lease_id = l.lease_id
            WHERE l.state = 'closed' AND l.closed_at >= last.looked_at - interval '10 seconds'
            UNION
            SELECT p.quota_id, p.period_start FROM quota_periods p WHERE is_sweep AND p.period_end > began - interval '1 hour'
        ), known AS (
            SELECT p.quota_id, p.period_start, p.period_end, p.tenant_id, p.settled, p.settled + p.held AS bound, p.used_seen, q.unit,
                q.mode, q.amount, quota_limit(q.quota_id, q.amount, p.period_start) AS allowed, q.thresholds_percent,
                ARRAY(SELECT e.threshold_percent FROM quota_events e
                    WHERE e.quota_id = p.quota_id AND e.period_start = p.period_start) AS raised
            FROM touched t
            JOIN quota_periods p ON p.quota_id = t.quota_id AND p.period_start = t.period_start
            JOIN quotas q ON q.quota_id = p.quota_id
            WHERE q.retired_at IS NULL AND p.settled + p.held > 0
        ), due AS (
            SELECT k.* FROM known k
            WHERE EXISTS (SELECT FROM unnest(k.thresholds_percent) AS t
                    WHERE t <> ALL (k.raised) AND k.bound::numeric * 100 >= k.allowed::numeric * t)
                OR (k.mode <> 'hard' AND k.used_seen <= k.allowed AND k.bound > k.allowed)
        )
        SELECT d.quota_id, d.period_start, d.period_end, d.tenant_id, d.mode, d.amount, d.allowed, d.settled + (
                SELECT coalesce(sum(CASE d.unit WHEN 'requests' THEN e.requests ELSE e.input_tokens + e.output_tokens END), 0)::bigint
                FROM quota_leases l
                JOIN quota_lease_slices s ON s.lease_id = l.lease_id
                JOIN ledger e ON e.lease_id = l.lease_id
                WHERE l.tenant_id = d.tenant_id AND l.state = 'open' AND s.quota_id = d.quota_id AND s.period_start = d.period_start),
            d.thresholds_percent, d.raised, began
        FROM due d;
END
$$;

-- Requests that were refused before they cost anything, for a while: what decided. They have no row in requests.
CREATE TABLE refusals (
    request_id      uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL,
    key_id          uuid NOT NULL,
    model           text NOT NULL,
    code            text NOT NULL CHECK (code IN ('quota_exceeded', 'rate_limited')),
    refused_at      timestamptz NOT NULL,
    policy          text NOT NULL,
    unit            text NOT NULL,
    allowed         bigint NOT NULL,
    -- Of a quota; a rate limit has none.
    settled         bigint,
    held            bigint,
    remaining       bigint NOT NULL,
    requested       bigint NOT NULL,
    retry_after_ms  bigint,
    period_start    timestamptz,
    period_end      timestamptz,
    CHECK ((settled IS NULL) = (held IS NULL))
);

-- Removes leases that were closed longer ago than p_keep_hours, at most p_limit of them, with their slices. Periods and ledger stay.
CREATE FUNCTION remove_closed_leases(p_keep_hours integer, p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    old uuid[];
BEGIN
    old := ARRAY(SELECT l.lease_id FROM quota_leases l
        WHERE l.state = 'closed' AND l.closed_at < clock_timestamp() - make_interval(hours => p_keep_hours)
        ORDER BY l.closed_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    DELETE FROM quota_lease_slices s WHERE s.lease_id = ANY (old);
    DELETE FROM quota_leases l WHERE l.lease_id = ANY (old);
    RETURN cardinality(old);
END
$$;

-- Removes refusals that are older than p_keep_hours, at most p_limit of them: a request's id begins with its time.
CREATE FUNCTION remove_refusals(p_keep_hours integer, p_limit integer) RETURNS integer
    LANGUAGE sql
    AS $$
    WITH old AS MATERIALIZED (
        SELECT r.request_id FROM refusals r
        WHERE r.request_id < uuid_lower_bound(clock_timestamp() - make_interval(hours => p_keep_hours))
        ORDER BY r.request_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM refusals r USING old WHERE r.request_id = old.request_id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;

ALTER TABLE quota_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE refusals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON quota_events FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON refusals FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY watch ON quota_events FOR SELECT TO weir_jobs USING (true);
CREATE POLICY raising ON quota_events FOR INSERT TO weir_jobs WITH CHECK (true);
CREATE POLICY all_rows ON quota_events FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY refusing ON refusals FOR INSERT TO weir_writer WITH CHECK (true);
-- ON CONFLICT has to see which keys are there.
CREATE POLICY refused_keys ON refusals FOR SELECT TO weir_writer USING (true);
CREATE POLICY removal ON refusals TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY watch ON quota_raises FOR SELECT TO weir_jobs USING (true);

GRANT SELECT ON quota_events TO weir_reader, weir_jobs, weir_admin, weir_reports;
GRANT INSERT ON quota_events TO weir_jobs;
GRANT SELECT, UPDATE ON quota_watch TO weir_jobs;
GRANT SELECT ON quota_raises TO weir_jobs;
GRANT DELETE ON quota_leases, quota_lease_slices TO weir_jobs;
GRANT INSERT, SELECT (request_id) ON refusals TO weir_writer;
GRANT SELECT ON refusals TO weir_reader;
-- FOR UPDATE needs the right to update; the job changes none.
GRANT SELECT (request_id), UPDATE (request_id), DELETE ON refusals TO weir_jobs;

"""#),
        (name: "0013_model_versions", sql: #"""
-- Versions of models, second names, how requests are divided and copied, and workers that say by themselves that they are there.
CREATE TABLE model_versions (
    model_name                text NOT NULL REFERENCES model_registry,
    version                   text NOT NULL CHECK (version ~ '^[A-Za-z0-9._+-]{1,64}$' AND version !~ '\.\.' AND version NOT IN ('.', 'latest')),
    state                     text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
    -- The share of requests that name no version; NULL for a version that has no part in that.
    weight                    integer CHECK (weight BETWEEN 0 AND 10000),
    -- What the version says otherwise than its model.
    feature_count             integer CHECK (feature_count BETWEEN 1 AND 1000000),
    fixed_tokens_per_request  bigint CHECK (fixed_tokens_per_request >= 0),
    maximum_output_tokens     bigint CHECK (maximum_output_tokens >= 0),
    token_counting            text CHECK (token_counting IN ('worker', 'counted', 'fixed', 'payload')),
    bytes_per_token           integer CHECK (bytes_per_token BETWEEN 1 AND 1000),
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_name, version)
);
INSERT INTO model_versions (model_name, version)
    SELECT model_name, version FROM model_registry
    WHERE version ~ '^[A-Za-z0-9._+-]{1,64}$' AND version !~ '\.\.' AND version NOT IN ('.', 'latest');

-- mirror_share: of ten thousand requests, how many are copied.
ALTER TABLE model_registry
    ADD COLUMN default_version text,
    ADD COLUMN sticky_by text NOT NULL DEFAULT 'none' CHECK (sticky_by ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,63}$'),
    ADD COLUMN mirror_model text REFERENCES model_registry,
    ADD COLUMN mirror_version text,
    ADD COLUMN mirror_share integer CHECK (mirror_share BETWEEN 1 AND 10000),
    ADD FOREIGN KEY (model_name, default_version) REFERENCES model_versions (model_name, version),
    ADD CHECK ((mirror_share IS NULL) = (mirror_model IS NULL AND mirror_version IS NULL));

-- The reference keeps an alias from naming another alias. That an alias does not shadow a model is checked where either is made, under one lock.
CREATE TABLE model_aliases (
    alias       text PRIMARY KEY CHECK (alias ~ '^[a-z0-9][a-z0-9._-]{0,127}$' AND alias !~ '\.\.'),
    model_name  text NOT NULL REFERENCES model_registry,
    version     text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (model_name, version) REFERENCES model_versions (model_name, version)
);

-- One worker may serve several versions.
ALTER TABLE routes DROP CONSTRAINT routes_pkey, ADD PRIMARY KEY (model_name, address, version);

-- A worker is in the table of routes until it expires. A heartbeat is one update in place, without a notification.
CREATE TABLE workers (
    worker_id      uuid PRIMARY KEY,
    model_name     text NOT NULL REFERENCES model_registry,
    version        text NOT NULL DEFAULT '' CHECK (length(version) <= 64),
    address        text NOT NULL CHECK (length(address) BETWEEN 3 AND 300),
    protocol       text NOT NULL CHECK (protocol IN ('oip', 'predict')),
    weight         integer NOT NULL CHECK (weight BETWEEN 1 AND 1000),
    ttl_seconds    integer NOT NULL CHECK (ttl_seconds BETWEEN 2 AND 3600),
    registered_at  timestamptz NOT NULL DEFAULT now(),
    heartbeat_at   timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    UNIQUE (model_name, address, version)
) WITH (fillfactor = 50);

CREATE TRIGGER model_versions_changed AFTER INSERT OR UPDATE OR DELETE ON model_versions
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER model_aliases_changed AFTER INSERT OR UPDATE OR DELETE ON model_aliases
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();
CREATE TRIGGER workers_changed AFTER INSERT OR DELETE OR UPDATE OF worker_id, protocol, weight ON workers
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

GRANT SELECT ON model_versions, model_aliases, workers TO weir_directory;
GRANT SELECT, INSERT, UPDATE ON model_versions TO weir_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON model_aliases, workers TO weir_admin;

"""#),
        (name: "0014_delivery", sql: #"""
-- How a model's replicas are called. What is not said here is the default of the gateway's own configuration, so that a better default
-- reaches every model that nobody has tuned.
ALTER TABLE model_registry
    ADD COLUMN delivery_balancing text CHECK (delivery_balancing IN ('power_of_two', 'weighted', 'least_latency')),
    ADD COLUMN delivery_safe_to_repeat boolean,
    ADD COLUMN delivery_probe_path text CHECK (delivery_probe_path ~ '^/[!-~]{0,255}$' AND delivery_probe_path !~ '#'),
    ADD COLUMN delivery_replica_concurrency bigint CHECK (delivery_replica_concurrency BETWEEN 1 AND 100000),
    ADD COLUMN delivery_queue_depth bigint CHECK (delivery_queue_depth BETWEEN 0 AND 100000),
    ADD COLUMN delivery_queue_wait_ms bigint CHECK (delivery_queue_wait_ms BETWEEN 0 AND 60000),
    ADD COLUMN delivery_connect_ms bigint CHECK (delivery_connect_ms BETWEEN 1 AND 60000),
    ADD COLUMN delivery_first_byte_ms bigint CHECK (delivery_first_byte_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_total_ms bigint CHECK (delivery_total_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_attempts bigint CHECK (delivery_attempts BETWEEN 1 AND 5),
    ADD COLUMN delivery_hedge_after_ms bigint CHECK (delivery_hedge_after_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_retry_percent bigint CHECK (delivery_retry_percent BETWEEN 0 AND 100),
    ADD COLUMN delivery_breaker_failures bigint CHECK (delivery_breaker_failures BETWEEN 0 AND 1000),
    ADD COLUMN delivery_breaker_percent bigint CHECK (delivery_breaker_percent BETWEEN 0 AND 100),
    ADD COLUMN delivery_breaker_open_ms bigint CHECK (delivery_breaker_open_ms BETWEEN 100 AND 600000),
    ADD COLUMN delivery_slow_start_ms bigint CHECK (delivery_slow_start_ms BETWEEN 0 AND 3600000),
    ADD COLUMN delivery_probe_interval_ms bigint CHECK (delivery_probe_interval_ms BETWEEN 0 AND 3600000),
    ADD COLUMN delivery_probe_timeout_ms bigint CHECK (delivery_probe_timeout_ms BETWEEN 1 AND 60000);

"""#),
        (name: "0015_prediction_cache", sql: #"""
-- Cached predictions: which models have them, what a hit costs, what was charged for one, and the level of the cache that is a table.

-- The policy of a model. NULL is the default, which is off.
ALTER TABLE model_registry
    ADD COLUMN cache_enabled boolean,
    ADD COLUMN cache_ttl_seconds integer CHECK (cache_ttl_seconds BETWEEN 0 AND 31536000),
    ADD COLUMN cache_maximum_ttl_seconds integer CHECK (cache_maximum_ttl_seconds BETWEEN 1 AND 31536000),
    ADD COLUMN cache_sameness text CHECK (cache_sameness IN ('canonical_json', 'tensors')),
    ADD COLUMN cache_levels text[] CHECK (cache_levels <@ ARRAY['memory', 'redis', 'table'] AND 'memory' = ANY (cache_levels)),
    ADD COLUMN cache_generations text CHECK (cache_generations IN ('none', 'deterministic', 'requested'));

-- What a hit is charged of the tokens of its answer, in percent. The request itself is charged in any case.
ALTER TABLE tier_versions
    ADD COLUMN cache_hit_token_percent smallint NOT NULL DEFAULT 100 CHECK (cache_hit_token_percent BETWEEN 0 AND 100);

-- The counts of an entry stay what is charged, and token_source says 'cache' for a hit. Beside them: the counts that its answer had when a
-- worker gave it. A gateway of the release before writes none, and makes no hits. No condition on them: it would read the whole ledger.
ALTER TABLE ledger
    ADD COLUMN served_input_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN served_output_tokens bigint NOT NULL DEFAULT 0;

CREATE TABLE prediction_cache (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id      uuid NOT NULL,
    -- HMAC-SHA-256 under a secret of the tenant's own, which is nowhere in the database, in hexadecimal digits.
    cache_key      text COLLATE "C" NOT NULL UNIQUE CHECK (length(cache_key) = 64),
    model_name     text NOT NULL,
    model_version  text NOT NULL,
    -- The caller's own name for what it asked.
    label          text COLLATE "C" CHECK (length(label) BETWEEN 1 AND 128),
    -- A frame with a code of its own: one that was changed is no answer.
    predictions    bytea NOT NULL,
    metadata       jsonb NOT NULL DEFAULT '{}',
    cached_at      timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    access_count   bigint NOT NULL DEFAULT 0 CHECK (access_count >= 0),
    last_accessed  timestamptz,
    CHECK (expires_at > cached_at)
);
CREATE INDEX prediction_cache_by_end ON prediction_cache (expires_at);
CREATE INDEX prediction_cache_by_tenant ON prediction_cache (tenant_id, model_name);

-- What was cleared. An entry knows up to which clearing it is younger, so a clearing searches for nothing; it stays as long as an entry can.
CREATE TABLE cache_clearings (
    clearing_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    uuid,
    model_name   text,
    pattern      text COLLATE "C" CHECK (length(pattern) BETWEEN 1 AND 128),
    cleared_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A label is a tenant's own word.
    CHECK (pattern IS NULL OR tenant_id IS NOT NULL),
    CHECK (num_nonnulls(tenant_id, model_name) > 0)
);
CREATE TRIGGER cache_clearings_changed AFTER INSERT ON cache_clearings
    FOR EACH STATEMENT EXECUTE FUNCTION advance_control_generation();

CREATE TABLE cache_statistics (
    tenant_id     uuid NOT NULL,
    model_name    text NOT NULL,
    memory_hits   bigint NOT NULL DEFAULT 0,
    redis_hits    bigint NOT NULL DEFAULT 0,
    table_hits    bigint NOT NULL DEFAULT 0,
    collapsed     bigint NOT NULL DEFAULT 0,
    misses        bigint NOT NULL DEFAULT 0,
    stores        bigint NOT NULL DEFAULT 0,
    stored_bytes  bigint NOT NULL DEFAULT 0,
    evictions     bigint NOT NULL DEFAULT 0,
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, model_name)
);

-- Shows the one answer whose key the caller knows; the writer may read no other.
CREATE FUNCTION find_cached_prediction(p_tenant uuid, p_key text) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT predictions FROM prediction_cache WHERE cache_key = p_key AND tenant_id = p_tenant AND expires_at > clock_timestamp()
    $$;

-- Nothing here is waited for on the disk: what a crash forgets is a miss, or a count.
CREATE FUNCTION keep_cached_predictions(
    p_keys text[], p_tenants uuid[], p_models text[], p_versions text[], p_labels text[], p_predictions bytea[],
    p_cached_at timestamptz[], p_expires_at timestamptz[]
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    kept integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH fresh AS (
        -- In the order of the keys, so that two gateways that keep the same ones do not wait for each other in a circle.
        SELECT DISTINCT ON (cache_key) * FROM unnest(p_keys, p_tenants, p_models, p_versions, p_labels, p_predictions, p_cached_at,
            p_expires_at) AS f (cache_key, tenant_id, model_name, model_version, label, predictions, cached_at, expires_at)
        ORDER BY cache_key, cached_at DESC
    ), written AS (
        INSERT INTO prediction_cache AS c (cache_key, tenant_id, model_name, model_version, label, predictions, cached_at, expires_at)
        SELECT cache_key, tenant_id, model_name, model_version, label, predictions, cached_at, expires_at FROM fresh
        ORDER BY cache_key
        ON CONFLICT (cache_key) DO UPDATE SET predictions = EXCLUDED.predictions, cached_at = EXCLUDED.cached_at,
            expires_at = EXCLUDED.expires_at
            WHERE c.tenant_id = EXCLUDED.tenant_id AND c.cached_at < EXCLUDED.cached_at
        RETURNING 1
    )
    SELECT count(*) INTO kept FROM written;
    RETURN kept;
END
$$;

CREATE FUNCTION note_cache_accesses(p_keys text[], p_counts bigint[], p_last timestamptz[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    noted integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH seen AS (
        SELECT * FROM unnest(p_keys, p_counts, p_last) AS s (cache_key, hits, last_at)
    ), held AS MATERIALIZED (
        SELECT c.id, s.hits, s.last_at FROM prediction_cache c JOIN seen s USING (cache_key) ORDER BY cache_key FOR UPDATE OF c
    ), written AS (
        UPDATE prediction_cache c SET access_count = c.access_count + h.hits,
            last_accessed = greatest(c.last_accessed, h.last_at)
        FROM held h WHERE c.id = h.id
        RETURNING 1
    )
    SELECT count(*) INTO noted FROM written;
    RETURN noted;
END
$$;

CREATE FUNCTION add_cache_statistics(
    p_tenants uuid[], p_models text[], p_memory_hits bigint[], p_redis_hits bigint[], p_table_hits bigint[], p_collapsed bigint[],
    p_misses bigint[], p_stores bigint[], p_stored_bytes bigint[], p_evictions bigint[]
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    added integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH written AS (
        INSERT INTO cache_statistics AS s (tenant_id, model_name, memory_hits, redis_hits, table_hits, collapsed, misses, stores,
            stored_bytes, evictions)
        SELECT * FROM unnest(p_tenants, p_models, p_memory_hits, p_redis_hits, p_table_hits, p_collapsed, p_misses, p_stores,
            p_stored_bytes, p_evictions) AS f (tenant_id, model_name, a, b, c, d, e, f, g, h)
        ORDER BY tenant_id, model_name
        ON CONFLICT (tenant_id, model_name) DO UPDATE SET memory_hits = s.memory_hits + EXCLUDED.memory_hits,
            redis_hits = s.redis_hits + EXCLUDED.redis_hits, table_hits = s.table_hits + EXCLUDED.table_hits,
            collapsed = s.collapsed + EXCLUDED.collapsed, misses = s.misses + EXCLUDED.misses, stores = s.stores + EXCLUDED.stores,
            stored_bytes = s.stored_bytes + EXCLUDED.stored_bytes, evictions = s.evictions + EXCLUDED.evictions,
            updated_at = clock_timestamp()
        RETURNING 1
    )
    SELECT count(*) INTO added FROM written;
    RETURN added;
END
$$;

-- Records a clearing and answers its number. Numbers are given in the order of the commits, because the lock is held until then: a gateway
-- that knows one knows all before it. A clearing of everything in a scope takes the place of those that it covers, and a tenant with
-- very many patterns gets one of everything instead.
CREATE FUNCTION clear_prediction_cache(p_tenant uuid, p_model text, p_pattern text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    number bigint;
    pattern_wanted text := p_pattern;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('weir.clear_prediction_cache'));
    IF pattern_wanted IS NOT NULL
        AND (SELECT count(*) FROM cache_clearings WHERE tenant_id = p_tenant AND pattern IS NOT NULL) >= 1000 THEN
        pattern_wanted := NULL;
    END IF;
    INSERT INTO cache_clearings (tenant_id, model_name, pattern) VALUES (p_tenant, p_model, pattern_wanted)
        RETURNING clearing_id INTO number;
    DELETE FROM cache_clearings c WHERE c.clearing_id < number AND (
        c.cleared_at < clock_timestamp() - interval '366 days'
        OR (c.tenant_id IS NOT DISTINCT FROM p_tenant AND (
            (c.model_name IS NOT DISTINCT FROM p_model AND c.pattern IS NOT DISTINCT FROM pattern_wanted)
            OR (pattern_wanted IS NULL AND (p_model IS NULL OR c.model_name = p_model)))));
    RETURN number;
END
$$;

-- Removes what has ended, at most p_limit rows, and answers how many.
CREATE FUNCTION remove_expired_predictions(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH due AS MATERIALIZED (
        SELECT id FROM prediction_cache WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM prediction_cache c USING due WHERE c.id = due.id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;

REVOKE ALL ON FUNCTION find_cached_prediction, keep_cached_predictions, note_cache_accesses, add_cache_statistics, clear_prediction_cache,
    remove_expired_predictions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_cached_prediction, keep_cached_predictions, note_cache_accesses, add_cache_statistics TO weir_writer;
GRANT EXECUTE ON FUNCTION clear_prediction_cache TO weir_admin;
GRANT EXECUTE ON FUNCTION remove_expired_predictions TO weir_jobs;

ALTER TABLE prediction_cache ENABLE ROW LEVEL SECURITY;
ALTER TABLE cache_clearings ENABLE ROW LEVEL SECURITY;
ALTER TABLE cache_statistics ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON prediction_cache FOR SELECT TO weir_admin USING (true);
CREATE POLICY all_rows ON cache_clearings FOR SELECT TO weir_directory, weir_admin USING (true);
CREATE POLICY all_rows ON cache_statistics FOR SELECT TO weir_admin USING (true);

-- All but the answers.
GRANT SELECT (id, tenant_id, model_name, model_version, label, metadata, cached_at, expires_at, access_count, last_accessed)
    ON prediction_cache TO weir_admin;
GRANT SELECT ON cache_clearings TO weir_directory, weir_admin;
GRANT SELECT ON cache_statistics TO weir_admin;

"""#),
        (name: "0016_model_usage", sql: #"""
-- What those who scale workers have to know of each model: errors, cache hits, busy time and queue depth, by quarters of an hour.
--
-- All but the queue follow from the ledger and the request rows, as usage does, and can be rebuilt. Ledger entry and request row of a
-- request are written in one transaction, so that the one watermark holds for both.

-- NULL in the rows that were there before: their transactions were over when this file was applied.
ALTER TABLE requests ADD COLUMN tx xid8;
ALTER TABLE requests ALTER COLUMN tx SET DEFAULT pg_current_xact_id();
-- Only for those that are in no ledger: settling a completed request does not pay for it.
CREATE INDEX requests_failed_by_transaction ON requests (tx) WHERE status = 'failed';

-- Whether a request was answered from the cache. The one place in which the roll-up learns how a request row says so: a change of that
-- goes here and into the view below.
CREATE FUNCTION is_cache_hit(cached boolean) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT coalesce(cached, false) $$;

-- What the roll-up reads of a request, and nothing that a customer sent. A view with its owner's rights.
CREATE VIEW request_outcomes AS
    SELECT request_id, model, created_at, status, is_cache_hit(cached) AS cache_hit, coalesce(processing_us, 0) AS busy_us, tx
    FROM requests;
REVOKE ALL ON request_outcomes FROM PUBLIC;

ALTER TABLE model_usage_metrics
    ADD COLUMN error_count      bigint NOT NULL DEFAULT 0,
    ADD COLUMN cache_hit_count  bigint NOT NULL DEFAULT 0,
    ADD COLUMN busy_us          bigint NOT NULL DEFAULT 0,
    -- The most requests that waited for a worker or were with one on any gateway. A gauge: it cannot be rebuilt.
    ADD COLUMN queue_depth      bigint NOT NULL DEFAULT 0 CHECK (queue_depth >= 0);

-- Moves the watermark up to the oldest transaction that still runs and adds what was written in between to the roll-ups, in one
-- transaction. Answers the number of ledger entries added.
CREATE OR REPLACE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    WITH entries AS MATERIALIZED (
        SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, kind, request_id, requests,
            input_tokens, cached_input_tokens, output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
    ), fresh AS MATERIALIZED (
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, count(*) AS entries, sum(requests)::bigint AS requests,
            sum(input_tokens)::bigint AS input_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
            sum(output_tokens)::bigint AS output_tokens
        FROM entries GROUP BY 1, 2, 3, 4, 5
    ), by_tenant AS (
        INSERT INTO usage AS u (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens,
            cached_input_tokens, output_tokens)
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        FROM fresh ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            requests_count = u.requests_count + EXCLUDED.requests_count,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens
    ), parts AS (
        SELECT model, bucket_start, requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits, 0 AS busy_us
        FROM fresh
        UNION ALL
        SELECT o.model, usage_bucket(o.created_at), 0, 0, 0, o.cache_hit::integer, o.busy_us
        FROM entries e JOIN request_outcomes o ON o.request_id = e.request_id WHERE e.kind = 'usage'
        UNION ALL
        SELECT model, usage_bucket(created_at), 0, 0, 1, cache_hit::integer, busy_us
        FROM request_outcomes WHERE status = 'failed' AND tx >= from_tx AND tx < to_tx
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
        SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us)
        FROM parts GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count,
            token_count = m.token_count + EXCLUDED.token_count,
            error_count = m.error_count + EXCLUDED.error_count,
            cache_hit_count = m.cache_hit_count + EXCLUDED.cache_hit_count,
            busy_us = m.busy_us + EXCLUDED.busy_us
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;

-- Computes the roll-ups of p_from <= bucket < p_to anew from what the watermark has passed; the queue's depth stays. Both ends are on a
-- quarter of an hour. Answers the number of buckets of models. Nobody else moves the watermark meanwhile, and readers see the old numbers
-- until the commit.
--
-- A request's id is made at the moment that counts for its bucket, and a correction after it, so partitions that are too old are left
-- out; the day is for clocks that were set back. Months whose partitions are no longer there must not be asked for.
CREATE FUNCTION rebuild_usage(p_from timestamptz, p_to timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    reached xid8;
    earliest uuid;
    rebuilt bigint;
BEGIN
    IF isfinite(p_from) AND usage_bucket(p_from) <> p_from OR isfinite(p_to) AND usage_bucket(p_to) <> p_to THEN
        RAISE EXCEPTION 'the ends are not on a quarter of an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    earliest := uuid_lower_bound(greatest(p_from, timestamptz '1970-01-02 00:00:00+00') - interval '1 day');
    DELETE FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
        sum(cached_input_tokens), sum(output_tokens)
    FROM ledger WHERE entry_id >= earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < reached
    GROUP BY 1, 2, 3, 4, 5;

    UPDATE model_usage_metrics SET request_count = 0, token_count = 0, error_count = 0, cache_hit_count = 0, busy_us = 0
    WHERE time_window >= p_from AND time_window < p_to;
    INSERT INTO model_usage_metrics (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
    SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us) FROM (
        SELECT model, bucket_start, requests_count AS requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits,
            0 AS busy_us
        FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to
        UNION ALL
        SELECT o.model, usage_bucket(o.created_at), 0, 0, (o.status = 'failed')::integer, o.cache_hit::integer, o.busy_us
        FROM request_outcomes o
        WHERE o.request_id >= earliest AND o.created_at >= p_from AND o.created_at < p_to
            AND (o.status = 'completed' AND EXISTS (SELECT FROM ledger l WHERE l.entry_id = o.request_id AND l.tx < reached)
                OR o.status = 'failed' AND (o.tx IS NULL OR o.tx < reached))
    ) AS parts
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (model_name, time_window) DO UPDATE SET
        request_count = EXCLUDED.request_count, token_count = EXCLUDED.token_count, error_count = EXCLUDED.error_count,
        cache_hit_count = EXCLUDED.cache_hit_count, busy_us = EXCLUDED.busy_us;
    GET DIAGNOSTICS rebuilt = ROW_COUNT;
    RETURN rebuilt;
END
$$;

-- What a gateway saw of a model's queue in a bucket; the greatest of all gateways stays.
CREATE FUNCTION note_queue_depths(p_bucket timestamptz, p_models text[], p_depths bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    INSERT INTO model_usage_metrics AS m (model_name, time_window, queue_depth)
    SELECT model, usage_bucket(p_bucket), max(depth) FROM unnest(p_models, p_depths) AS d (model, depth)
    GROUP BY 1 ORDER BY 1
    ON CONFLICT (model_name, time_window) DO UPDATE SET queue_depth = greatest(m.queue_depth, EXCLUDED.queue_depth)
    $$;

REVOKE ALL ON FUNCTION rebuild_usage, note_queue_depths FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rebuild_usage TO weir_jobs, weir_admin;
GRANT EXECUTE ON FUNCTION note_queue_depths TO weir_writer;
GRANT SELECT ON request_outcomes TO weir_jobs, weir_reports;

-- The columns that are new, for what was there before.
SELECT rebuild_usage('-infinity', 'infinity');

"""#),
        (name: "0017_quota_watch_bounds", sql: #"""
-- The watch over quotas, bounded: the first look of an installation does not read every lease that was ever closed (what closed more than
-- an hour ago is in no period that a sweep has to find), one look adds up at most so many periods, drawn by chance so that none waits
-- behind the others for ever, and a database whose clock was set back goes on looking.
CREATE OR REPLACE FUNCTION look_at_quotas(p_pause_ms bigint, p_sweep_ms bigint) RETURNS TABLE (
    quota uuid, starts timestamptz, ends timestamptz, tenant uuid, how text, included bigint, allowed bigint, used bigint,
    thresholds smallint[], raised smallint[], at timestamptz
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    last quota_watch%ROWTYPE;
    now_generation bigint;
    is_sweep boolean;
BEGIN
    SELECT w.* INTO last FROM quota_watch w
        WHERE w.looked_at <= began - p_pause_ms * interval '1 millisecond' OR w.looked_at > began
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT g.value INTO now_generation FROM control_generation g;
    is_sweep := now_generation <> last.generation OR last.swept_at <= began - p_sweep_ms * interval '1 millisecond'
        OR last.swept_at > began;
    UPDATE quota_watch w SET looked_at = began, generation = now_generation,
        swept_at = CASE WHEN is_sweep THEN began ELSE w.swept_at END;
    RETURN QUERY
        WITH touched AS MATERIALIZED (
            SELECT s.quota_id, s.period_start FROM quota_leases l JOIN quota_lease_slices s ON s.lease_id = l.lease_id
            WHERE l.state = 'open'
            UNION
            -- A lease has its time of closing a moment before others can see that it is closed.
            SELECT s.quota_id, s.period_start FROM quota_leases l JOIN quota_lease_slices s ON s.lease_id = l.lease_id
            WHERE l.state = 'closed' AND l.closed_at >= greatest(last.looked_at - interval '10 seconds', began - interval '1 hour')
            UNION
            SELECT p.quota_id, p.period_start FROM quota_periods p WHERE is_sweep AND p.period_end > began - interval '1 hour'
        ), known AS (
            SELECT p.quota_id, p.period_start, p.period_end, p.tenant_id, p.settled, p.settled + p.held AS bound, p.used_seen, q.unit,
                q.mode, q.amount, quota_limit(q.quota_id, q.amount, p.period_start) AS allowed, q.thresholds_percent,
                ARRAY(SELECT e.threshold_percent FROM quota_events e
                    WHERE e.quota_id = p.quota_id AND e.period_start = p.period_start) AS raised
            FROM touched t
            JOIN quota_periods p ON p.quota_id = t.quota_id AND p.period_start = t.period_start
            JOIN quotas q ON q.quota_id = p.quota_id
            WHERE q.retired_at IS NULL AND p.settled + p.held > 0
        ), due AS (
            SELECT k.* FROM known k
            WHERE EXISTS (SELECT FROM unnest(k.thresholds_percent) AS t
                    WHERE t <> ALL (k.raised) AND k.bound::numeric * 100 >= k.allowed::numeric * t)
                OR (k.mode <> 'hard' AND k.used_seen <= k.allowed AND k.bound > k.allowed)
            ORDER BY random() LIMIT 500
        )
        SELECT d.quota_id, d.period_start, d.period_end, d.tenant_id, d.mode, d.amount, d.allowed, d.settled + (
                SELECT coalesce(sum(CASE d.unit WHEN 'requests' THEN e.requests ELSE e.input_tokens + e.output_tokens END), 0)::bigint
                FROM quota_leases l
                JOIN quota_lease_slices s ON s.lease_id = l.lease_id
                JOIN ledger e ON e.lease_id = l.lease_id
                WHERE l.tenant_id = d.tenant_id AND l.state = 'open' AND s.quota_id = d.quota_id AND s.period_start = d.period_start),
            d.thresholds_percent, d.raised, began
        FROM due d;
END
$$;

"""#),
        (name: "0018_prediction_cache_bound", sql: #"""
-- The table of cached predictions is bounded for each tenant: what is too much goes, the soonest to end first.

-- Removes at most p_limit rows of tenants that have more than p_rows, and answers how many. Another process that does the same at the time
-- takes other rows, so that a tenant may be left with a few less.
CREATE FUNCTION remove_excess_predictions(p_rows integer, p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH crowded AS MATERIALIZED (
        SELECT tenant_id, count(*) - p_rows AS excess FROM prediction_cache GROUP BY tenant_id HAVING count(*) > p_rows
    ), due AS MATERIALIZED (
        SELECT p.id FROM crowded CROSS JOIN LATERAL (
            SELECT id FROM prediction_cache c WHERE c.tenant_id = crowded.tenant_id ORDER BY expires_at, id
            LIMIT least(crowded.excess, p_limit) FOR UPDATE SKIP LOCKED
        ) AS p
        LIMIT p_limit
    ), removed AS (
        DELETE FROM prediction_cache c USING due WHERE c.id = due.id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;

REVOKE ALL ON FUNCTION remove_excess_predictions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION remove_excess_predictions TO weir_jobs;

"""#),
        (name: "0019_surfaces_and_streams", sql: #"""
-- What kind of work a request was, and what became of one whose answer was sent piece by piece.
ALTER TABLE routes DROP CONSTRAINT routes_protocol_check,
    ADD CONSTRAINT routes_protocol_check CHECK (protocol IN ('oip', 'predict', 'openai'));
ALTER TABLE workers DROP CONSTRAINT workers_protocol_check,
    ADD CONSTRAINT workers_protocol_check CHECK (protocol IN ('oip', 'predict', 'openai'));

ALTER TABLE requests
    ADD COLUMN operation text NOT NULL DEFAULT 'predict' CHECK (length(operation) BETWEEN 1 AND 40),
    -- Only of a stream that was charged: one that ends before its first token is a failed request.
    ADD COLUMN stream_end text
        CHECK (stream_end IN ('finished', 'client_left', 'worker_failed', 'cut_at_bound', 'deadline', 'stopping')),
    -- Output tokens that were handed to the caller, and that the worker made as far as we know. Which of the two is charged when they differ
    -- is the model's policy.
    ADD COLUMN delivered_tokens bigint CHECK (delivered_tokens >= 0),
    ADD COLUMN generated_tokens bigint CHECK (generated_tokens >= 0),
    ADD CONSTRAINT requests_stream CHECK (num_nulls(stream_end, delivered_tokens, generated_tokens) IN (0, 3));
GRANT SELECT (operation, stream_end, delivered_tokens, generated_tokens) ON requests TO weir_admin, weir_reports;

-- What is done and charged when the caller of a stream leaves: 'cancel' tells the worker to stop and charges what was delivered, 'drain' reads
-- the stream to its end and charges all of it. NULL leaves it to the model's own setting, and a model without one cancels.
ALTER TABLE model_registry
    ADD COLUMN stream_leave text CHECK (stream_leave IN ('cancel', 'drain'));
ALTER TABLE tier_versions
    ADD COLUMN stream_leave text CHECK (stream_leave IN ('cancel', 'drain'));

"""#),
        (name: "0020_jobs", sql: #"""
-- Asynchronous jobs.
--
-- A job is a request whose row is there before it runs: requests says what became of it, for ever, and jobs holds what the queue needs, until
-- the result's time is over. Both have the same key. A job's charge is its request's ledger entry.
ALTER TABLE requests
    -- The row was written at submission; the only rows that settlement changes.
    ADD COLUMN is_job      boolean NOT NULL DEFAULT false,
    -- When the last attempt of a job began; of other requests nothing.
    ADD COLUMN started_at  timestamptz;

-- How long the answer of a job can be had.
ALTER TABLE tier_versions
    ADD COLUMN result_ttl_seconds integer NOT NULL DEFAULT 86400 CHECK (result_ttl_seconds BETWEEN 60 AND 2592000);

CREATE TABLE jobs (
    job_id            uuid PRIMARY KEY,
    tenant_id         uuid NOT NULL,
    user_id           uuid,
    key_id            uuid NOT NULL,
    -- Of a job that came with others in one file.
    batch_id          uuid,
    custom_id         text CHECK (length(custom_id) <= 512),
    -- Which surface reads the payload and writes the answer, as requests.operation.
    operation         text NOT NULL CHECK (length(operation) BETWEEN 1 AND 40),
    model             text NOT NULL,
    -- Model and version where the path names them and not the payload.
    path_model        text,
    path_version      text,
    payload           bytea,
    -- What the request said about the cache and tracing: lines of a head.
    head_fields       text NOT NULL DEFAULT '' CHECK (length(head_fields) <= 8192),
    priority          smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
    -- Not before; moved on by every retry.
    run_at            timestamptz NOT NULL,
    -- A job that no attempt has ended by then expires instead of running once more.
    deadline_at       timestamptz NOT NULL,
    state             text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'processing', 'completed', 'failed', 'cancelled', 'expired')),
    -- Of a queued job: its run_at has come. The ready ones are claimed by one index, the others wait in another.
    is_ready          boolean NOT NULL,
    -- Failed because its attempts were used up: an operator may look and try again.
    is_dead           boolean NOT NULL DEFAULT false,
    -- How often it was claimed, counted before it runs. It is the fence: no two claims share it, and it never goes back.
    attempt           integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- The last attempt that may be made; moved on by attempts that were given back unused, and by an operator.
    attempt_limit     integer NOT NULL DEFAULT 5 CHECK (attempt_limit >= 1),
    lease_owner       uuid,
    lease_expires_at  timestamptz,
    -- Of the last attempt that failed.
    error_code        text,
    error_detail      text CHECK (length(error_detail) <= 1000),
    http_status       smallint,
    -- The answer as a synchronous request would have got it.
    answer            bytea,
    created_at        timestamptz NOT NULL,
    started_at        timestamptz,
    ended_at          timestamptz,
    -- When the row goes.
    expires_at        timestamptz,
    -- The transaction that ended it: who follows the ended jobs reads those below the oldest running transaction.
    ended_tx          xid8,
    CONSTRAINT jobs_state CHECK (
        CASE state
            WHEN 'queued' THEN num_nonnulls(lease_owner, lease_expires_at, ended_at, expires_at, ended_tx, answer) = 0 AND NOT is_dead
            WHEN 'processing' THEN num_nulls(lease_owner, lease_expires_at, started_at) = 0
                AND num_nonnulls(ended_at, expires_at, ended_tx, answer) = 0 AND NOT is_ready AND NOT is_dead
            ELSE num_nulls(ended_at, expires_at, ended_tx) = 0 AND num_nonnulls(lease_owner, lease_expires_at) = 0 AND NOT is_ready
                AND (state <> 'completed' OR answer IS NOT NULL) AND (state = 'failed' OR NOT is_dead)
                AND (is_dead OR payload IS NULL)
        END),
    CHECK (state NOT IN ('queued', 'processing') OR payload IS NOT NULL)
) WITH (
    fillfactor = 70,
    -- Rows come and go quickly; what is dead at the head of an index is in the way of every claim.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1
);
-- From one tenant with queued jobs to the next, and to the first ready ones of each.
CREATE INDEX jobs_queue ON jobs (tenant_id, is_ready DESC, priority DESC, job_id) WHERE state = 'queued';
CREATE INDEX jobs_waiting ON jobs (run_at) WHERE state = 'queued' AND NOT is_ready;
CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE state = 'processing';
CREATE INDEX jobs_by_batch ON jobs (batch_id, job_id) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_ended_by_transaction ON jobs (ended_tx) WHERE ended_tx IS NOT NULL;
CREATE INDEX jobs_by_end ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX jobs_dead ON jobs (job_id) WHERE is_dead;

-- Claims at most p_limit ready jobs for an owner, and counts their attempts.
--
-- The tenants with queued jobs come in turn, from the one after p_after on and round again, at most p_tenants of them in one call; each gets
-- the same share, and what some leave is given to the others. Within a tenant the highest priority comes first, and of the same priority the oldest. The
-- work is bounded by p_limit and p_tenants, however much waits: a backlog must not make the planner think otherwise, so it has no choice.
-- Every row repeats the tenant after which the next call goes on.
CREATE FUNCTION claim_jobs(p_owner uuid, p_limit integer, p_lease_ms bigint, p_after uuid, p_tenants integer)
    RETURNS TABLE (job uuid, tenant uuid, key uuid, public_id text, batch uuid, operation text, path_model text, path_version text,
        payload bytea, head_fields text, attempt integer, attempt_limit integer, submitted_at timestamptz, go_on_after uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
    AS $$
DECLARE
    tenants uuid[] := '{}';
    one uuid;
    last uuid := p_after;
    has_wrapped boolean := p_after = '00000000-0000-0000-0000-000000000000';
    claimed uuid[] := '{}';
    taken uuid[];
    share integer;
    room integer := p_limit;
    overdue uuid[];
BEGIN
    UPDATE jobs j SET is_ready = true FROM (
        SELECT w.job_id FROM jobs w WHERE w.state = 'queued' AND NOT w.is_ready AND w.run_at <= clock_timestamp()
        ORDER BY w.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) due WHERE j.job_id = due.job_id;

    WHILE cardinality(tenants) < p_tenants LOOP
        SELECT q.tenant_id INTO one FROM jobs q WHERE q.state = 'queued' AND q.tenant_id > last ORDER BY q.tenant_id LIMIT 1;
        IF NOT FOUND THEN
            EXIT WHEN has_wrapped;
            has_wrapped := true;
            last := '00000000-0000-0000-0000-000000000000';
            CONTINUE;
        END IF;
        EXIT WHEN has_wrapped AND p_after <> '00000000-0000-0000-0000-000000000000' AND one > p_after;
        tenants := tenants || one;
        last := one;
    END LOOP;

    last := p_after;
    -- The second round gives what is left to those who have more.
    FOR round IN 1 .. 2 LOOP
        EXIT WHEN room = 0 OR cardinality(tenants) = 0;
        share := CASE round WHEN 1 THEN (room + cardinality(tenants) - 1) / cardinality(tenants) ELSE room END;
        FOREACH one IN ARRAY tenants LOOP
            EXIT WHEN room = 0;
            taken := ARRAY(SELECT q.job_id FROM jobs q
                WHERE q.state = 'queued' AND q.tenant_id = one AND q.is_ready AND q.job_id <> ALL (claimed)
                ORDER BY q.is_ready DESC, q.priority DESC, q.job_id LIMIT least(share, room) FOR UPDATE SKIP LOCKED);
            claimed := claimed || taken;
            room := room - cardinality(taken);
            IF round = 1 THEN
                last := one;
            END IF;
        END LOOP;
    END LOOP;

    WITH ended AS (
        UPDATE jobs j SET state = 'expired', is_ready = false, payload = NULL, ended_at = clock_timestamp(),
            expires_at = clock_timestamp() + interval '24 hours', ended_tx = pg_current_xact_id()
        FROM unnest(claimed) AS c (job_id) WHERE j.job_id = c.job_id AND j.deadline_at <= clock_timestamp()
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'expired', completed_at = clock_timestamp() FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT coalesce(array_agg(e.job_id), '{}') INTO overdue FROM ended e;
    IF cardinality(overdue) > 0 THEN
        claimed := ARRAY(SELECT c FROM unnest(claimed) AS c WHERE c <> ALL (overdue));
    END IF;

    RETURN QUERY
        WITH leased AS (
            UPDATE jobs j SET state = 'processing', is_ready = false, attempt = j.attempt + 1, lease_owner = p_owner,
                lease_expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond', started_at = clock_timestamp()
            FROM unnest(claimed) AS c (job_id) WHERE j.job_id = c.job_id
            RETURNING j.*
        ), recorded AS (
            UPDATE requests r SET status = 'processing', started_at = l.started_at FROM leased l WHERE r.request_id = l.job_id
        )
        SELECT l.job_id, l.tenant_id, l.key_id, k.public_id, l.batch_id, l.operation, l.path_model, l.path_version, l.payload, l.head_fields,
            l.attempt, l.attempt_limit, l.created_at, last
        FROM unnest(claimed) WITH ORDINALITY AS c (job_id, position)
        JOIN leased l ON l.job_id = c.job_id
        LEFT JOIN api_keys k ON k.key_id = l.key_id;
END
$$;

-- Gives back what dead owners held: jobs whose lease has run out wait for their next attempt, and those whose attempts are used up are dead.
-- Answers how many of each.
CREATE FUNCTION recover_jobs(p_limit integer, OUT returned integer, OUT dead integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    lost uuid[];
BEGIN
    lost := ARRAY(SELECT j.job_id FROM jobs j WHERE j.state = 'processing' AND j.lease_expires_at < clock_timestamp()
        ORDER BY j.lease_expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    WITH again AS (
        UPDATE jobs j SET state = 'queued', is_ready = true, lease_owner = NULL, lease_expires_at = NULL, error_code = 'lease_expired',
            error_detail = 'The process that ran it has gone.'
        WHERE j.job_id = ANY (lost) AND j.attempt < j.attempt_limit
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'queued' FROM again a WHERE r.request_id = a.job_id
    )
    SELECT count(*) INTO returned FROM again;
    WITH ended AS (
        UPDATE jobs j SET state = 'failed', is_dead = true, lease_owner = NULL, lease_expires_at = NULL, error_code = 'internal_error',
            http_status = 500, error_detail = 'The process that ran it has gone each time.', ended_at = clock_timestamp(),
            expires_at = clock_timestamp() + interval '7 days', ended_tx = pg_current_xact_id()
        WHERE j.job_id = ANY (lost) AND j.state = 'processing'
            AND j.attempt >= j.attempt_limit
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'failed', http_status = 500, error_code = 'internal_error', completed_at = clock_timestamp(),
            tx = pg_current_xact_id()
        FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT count(*) INTO dead FROM ended;
END
$$;

-- Cancels queued and running jobs of a tenant, by their ids; a running one's result is refused when it comes. Answers those it ended.
CREATE FUNCTION cancel_jobs(p_tenant uuid, p_jobs uuid[]) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH subjects AS MATERIALIZED (
        SELECT j.job_id FROM jobs j
        WHERE j.job_id = ANY (p_jobs) AND j.tenant_id = p_tenant AND j.state IN ('queued', 'processing')
        ORDER BY j.job_id FOR UPDATE
    ), ended AS (
        UPDATE jobs j SET state = 'cancelled', is_ready = false, payload = NULL, lease_owner = NULL, lease_expires_at = NULL,
            ended_at = clock_timestamp(), expires_at = clock_timestamp() + interval '24 hours', ended_tx = pg_current_xact_id()
        FROM subjects s WHERE j.job_id = s.job_id
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'cancelled', completed_at = clock_timestamp() FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT job_id FROM ended
    $$;

-- Cancels at most p_limit jobs of a batch that have not ended. Answers those it ended; fewer than p_limit is all.
CREATE FUNCTION cancel_batch_jobs(p_tenant uuid, p_batch uuid, p_limit integer) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT cancel_jobs(p_tenant, ARRAY(
        SELECT j.job_id FROM jobs j
        WHERE j.batch_id = p_batch AND j.tenant_id = p_tenant AND j.state IN ('queued', 'processing')
        ORDER BY j.job_id LIMIT p_limit))
    $$;

-- Gives a dead job five more attempts. Answers whether it was dead.
CREATE FUNCTION retry_dead_job(p_job uuid) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH again AS (
        UPDATE jobs j SET state = 'queued', is_ready = true, is_dead = false, attempt_limit = j.attempt + 5, run_at = clock_timestamp(),
            deadline_at = greatest(j.deadline_at, clock_timestamp() + interval '24 hours'), ended_at = NULL, expires_at = NULL,
            ended_tx = NULL, http_status = NULL
        WHERE j.job_id = p_job AND j.is_dead
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'queued', http_status = NULL, error_code = NULL, completed_at = NULL
        FROM again a WHERE r.request_id = a.job_id
    )
    SELECT EXISTS (SELECT FROM again)
    $$;

-- Removes jobs whose results are past their end, at most p_limit of them. Their requests stay.
CREATE FUNCTION remove_expired_jobs(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.expires_at <= clock_timestamp() ORDER BY j.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM jobs j USING old WHERE j.job_id = old.job_id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;
REVOKE ALL ON FUNCTION claim_jobs, recover_jobs, cancel_jobs, cancel_batch_jobs, retry_dead_job, remove_expired_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_jobs, recover_jobs, cancel_jobs, cancel_batch_jobs TO weir_writer;
GRANT EXECUTE ON FUNCTION retry_dead_job TO weir_admin;
GRANT EXECUTE ON FUNCTION remove_expired_jobs TO weir_jobs;

-- What a request did counts for the time in which it did it. Of a job that is not when it was submitted.
CREATE OR REPLACE VIEW request_outcomes AS
    SELECT request_id, model, coalesce(started_at, created_at) AS created_at, status, is_cache_hit(cached) AS cache_hit,
        coalesce(processing_us, 0) AS busy_us, tx
    FROM requests;

-- As before, but the id of a job is older than its charge by as long as it may wait: a week until it may run, and a day or a few until its
-- deadline.
CREATE OR REPLACE FUNCTION rebuild_usage(p_from timestamptz, p_to timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    reached xid8;
    earliest uuid;
    rebuilt bigint;
BEGIN
    IF isfinite(p_from) AND usage_bucket(p_from) <> p_from OR isfinite(p_to) AND usage_bucket(p_to) <> p_to THEN
        RAISE EXCEPTION 'the ends are not on a quarter of an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    earliest := uuid_lower_bound(greatest(p_from, timestamptz '1970-01-17 00:00:00+00') - interval '15 days');
    DELETE FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
        sum(cached_input_tokens), sum(output_tokens)
    FROM ledger WHERE entry_id >= earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < reached
    GROUP BY 1, 2, 3, 4, 5;

    UPDATE model_usage_metrics SET request_count = 0, token_count = 0, error_count = 0, cache_hit_count = 0, busy_us = 0
    WHERE time_window >= p_from AND time_window < p_to;
    INSERT INTO model_usage_metrics (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
    SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us) FROM (
        SELECT model, bucket_start, requests_count AS requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits,
            0 AS busy_us
        FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to
        UNION ALL
        SELECT o.model, usage_bucket(o.created_at), 0, 0, (o.status = 'failed')::integer, o.cache_hit::integer, o.busy_us
        FROM request_outcomes o
        WHERE o.request_id >= earliest AND o.created_at >= p_from AND o.created_at < p_to
            AND (o.status = 'completed' AND EXISTS (SELECT FROM ledger l WHERE l.entry_id = o.request_id AND l.tx < reached)
                OR o.status = 'failed' AND (o.tx IS NULL OR o.tx < reached))
    ) AS parts
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (model_name, time_window) DO UPDATE SET
        request_count = EXCLUDED.request_count, token_count = EXCLUDED.token_count, error_count = EXCLUDED.error_count,
        cache_hit_count = EXCLUDED.cache_hit_count, busy_us = EXCLUDED.busy_us;
    GET DIAGNOSTICS rebuilt = ROW_COUNT;
    RETURN rebuilt;
END
$$;

ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON jobs FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY queueing ON jobs FOR SELECT TO weir_writer, weir_jobs, weir_admin USING (true);
CREATE POLICY submission ON jobs FOR INSERT TO weir_writer WITH CHECK (true);
CREATE POLICY completion ON jobs FOR UPDATE TO weir_writer USING (true) WITH CHECK (true);
-- The rows of other requests are written once.
CREATE POLICY completion ON requests FOR UPDATE TO weir_writer USING (is_job) WITH CHECK (is_job);

GRANT SELECT ON jobs TO weir_reader;
-- All but what the customer sent and got.
GRANT SELECT (job_id, tenant_id, user_id, key_id, batch_id, custom_id, operation, model, priority, run_at, deadline_at, state, is_ready,
    is_dead, attempt, attempt_limit, lease_owner, lease_expires_at, error_code, error_detail, http_status, created_at, started_at,
    ended_at, expires_at, ended_tx) ON jobs TO weir_writer, weir_jobs, weir_admin;
GRANT INSERT ON jobs TO weir_writer;
GRANT UPDATE (state, is_ready, is_dead, attempt_limit, run_at, lease_owner, lease_expires_at, error_code, error_detail, http_status, payload,
    answer, ended_at, expires_at, ended_tx) ON jobs TO weir_writer;
GRANT SELECT (request_id, is_job, status), UPDATE (gateway_id, model, model_version, status, http_status, error_code, completed_at,
    processing_us, estimated_tokens, input_tokens, output_tokens, tier_version_id, cached, prompt, prompt_sha256, result_id, tx)
    ON requests TO weir_writer;
GRANT SELECT (tier_version_id, result_ttl_seconds) ON tier_versions TO weir_writer;
GRANT SELECT (is_job, started_at) ON requests TO weir_admin, weir_reports;

"""#),
        (name: "0021_stream_settings", sql: #"""
-- What a model says of its streams, with the other settings of its delivery: what is done and charged when the caller leaves, and how long a
-- stream may pause and take. The tier's word about leaving counts before the model's.
ALTER TABLE model_registry RENAME COLUMN stream_leave TO delivery_stream_leave;
ALTER TABLE model_registry
    ADD COLUMN delivery_stream_gap_ms bigint CHECK (delivery_stream_gap_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_stream_total_ms bigint CHECK (delivery_stream_total_ms BETWEEN 1 AND 86400000);

"""#),
        (name: "0022_webhooks", sql: #"""
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

"""#),
        (name: "0023_batches", sql: #"""
-- Files of JSON Lines, kept in pieces; batches, each of which runs the lines of a file as jobs; and the events of both for webhooks.
CREATE TABLE files (
    file_id      uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    purpose      text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    filename     text NOT NULL CHECK (length(filename) BETWEEN 1 AND 255),
    bytes        bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    -- An upload that never ends, or the output of a batch that has not ended, is not shown.
    is_complete  boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX files_of_tenant ON files (tenant_id, file_id);
CREATE INDEX files_by_end ON files (expires_at);

CREATE TABLE file_chunks (
    file_id    uuid NOT NULL REFERENCES files ON DELETE CASCADE,
    position   integer NOT NULL CHECK (position >= 0),
    tenant_id  uuid NOT NULL,
    -- Not compressed here: what is read and written once need not be.
    content    bytea NOT NULL CHECK (length(content) BETWEEN 1 AND 16777216),
    PRIMARY KEY (file_id, position)
);
ALTER TABLE file_chunks ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE batches (
    batch_id          uuid PRIMARY KEY,
    tenant_id         uuid NOT NULL REFERENCES tenants,
    user_id           uuid,
    key_id            uuid NOT NULL,
    endpoint          text NOT NULL CHECK (endpoint IN ('/v1/chat/completions', '/v1/completions', '/v1/embeddings')),
    input_file_id     uuid NOT NULL,
    output_file_id    uuid,
    error_file_id     uuid,
    metadata          json NOT NULL DEFAULT '{}',
    state             text NOT NULL DEFAULT 'validating' CHECK (state IN ('validating', 'failed', 'in_progress', 'finalizing',
        'completed', 'expired', 'cancelling', 'cancelled')),
    -- What is wrong with the input, for a batch that failed.
    errors            json,
    total             integer NOT NULL DEFAULT 0 CHECK (total >= 0),
    -- Lines that were read for submission; and how many of them became no job, because the batch was at its end.
    read_lines        integer NOT NULL DEFAULT 0 CHECK (read_lines >= 0),
    skipped           integer NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    -- Where reading goes on: the piece and the byte in it.
    read_position     integer NOT NULL DEFAULT 0,
    read_offset       integer NOT NULL DEFAULT 0,
    -- Jobs whose end is in one of the two files, and the last of them: they are collected in the order of the lines.
    collected         integer NOT NULL DEFAULT 0 CHECK (collected >= 0),
    collected_to      uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    completed         integer NOT NULL DEFAULT 0 CHECK (completed >= 0),
    failed            integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    input_tokens      bigint NOT NULL DEFAULT 0,
    cached_tokens     bigint NOT NULL DEFAULT 0,
    output_tokens     bigint NOT NULL DEFAULT 0,
    output_chunks     integer NOT NULL DEFAULT 0,
    error_chunks      integer NOT NULL DEFAULT 0,
    -- The number of the claim is the fence.
    claim             integer NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at        timestamptz NOT NULL,
    in_progress_at    timestamptz,
    finalizing_at     timestamptz,
    completed_at      timestamptz,
    failed_at         timestamptz,
    expired_at        timestamptz,
    cancelling_at     timestamptz,
    cancelled_at      timestamptz,
    CHECK (collected + skipped <= total OR state = 'validating'),
    CHECK (completed + failed <= total OR state = 'validating')
);
CREATE INDEX batches_of_tenant ON batches (tenant_id, batch_id);
CREATE INDEX batches_due ON batches (due_at) WHERE state IN ('validating', 'in_progress', 'finalizing', 'cancelling');
CREATE INDEX batches_by_input ON batches (input_file_id);

-- Adds a piece to an upload. Answers 'kept', 'unknown', or 'full' where the tenant's files would be larger than p_limit together.
CREATE FUNCTION append_upload(p_file uuid, p_tenant uuid, p_position integer, p_content bytea, p_limit bigint) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT coalesce(sum(f.bytes), 0) FROM files f WHERE f.tenant_id = p_tenant) + length(p_content) > p_limit THEN
        RETURN 'full';
    END IF;
    UPDATE files f SET bytes = f.bytes + length(p_content) WHERE f.file_id = p_file AND f.tenant_id = p_tenant AND NOT f.is_complete;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    INSERT INTO file_chunks (file_id, position, tenant_id, content) VALUES (p_file, p_position, p_tenant, p_content);
    RETURN 'kept';
END
$$;

-- Takes a batch that is due, for p_lease_ms. Whoever comes after that takes it again under a higher number, and what the one before says is
-- refused.
CREATE FUNCTION claim_batch(p_lease_ms bigint) RETURNS SETOF batches
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    UPDATE batches b SET claim = b.claim + 1, due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
    WHERE b.batch_id = (
        SELECT d.batch_id FROM batches d
        WHERE d.state IN ('validating', 'in_progress', 'finalizing', 'cancelling') AND d.due_at <= clock_timestamp()
        ORDER BY d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING b.*
    $$;

-- Keeps a claim, or gives it back where p_lease_ms is short. Answers whether it still held, and the state.
CREATE FUNCTION hold_batch(p_batch uuid, p_claim integer, p_lease_ms bigint) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    UPDATE batches b SET due_at = clock_timestamp() + p_lease_ms * interval '1 millisecond'
    WHERE b.batch_id = p_batch AND b.claim = p_claim RETURNING b.state
    $$;

-- A piece of the input of a batch; none behind the last one.
CREATE FUNCTION read_batch_input(p_batch uuid, p_position integer) RETURNS bytea
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT c.content FROM batches b JOIN file_chunks c ON c.file_id = b.input_file_id AND c.position = p_position
    WHERE b.batch_id = p_batch AND b.tenant_id = c.tenant_id
    $$;

-- The input was read to its end: the batch runs, or it failed with p_errors.
CREATE FUNCTION finish_batch_validation(p_batch uuid, p_claim integer, p_total integer, p_errors text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE batches b SET total = p_total, errors = p_errors::json, due_at = clock_timestamp(),
        state = CASE WHEN p_errors IS NULL THEN 'in_progress' ELSE 'failed' END,
        in_progress_at = CASE WHEN p_errors IS NULL THEN clock_timestamp() END,
        failed_at = CASE WHEN p_errors IS NOT NULL THEN clock_timestamp() END
    WHERE b.batch_id = p_batch AND b.claim = p_claim AND b.state = 'validating';
    RETURN FOUND;
END
$$;

-- Adds lines to the output or the errors of a batch whose row is locked. The file is made with the first of them.
CREATE FUNCTION append_batch_lines(p_batch uuid, p_is_error boolean, p_lines text) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    b batches%ROWTYPE;
    target uuid;
    place integer;
    content bytea := convert_to(p_lines, 'UTF8');
BEGIN
    SELECT * INTO b FROM batches WHERE batch_id = p_batch;
    target := CASE WHEN p_is_error THEN b.error_file_id ELSE b.output_file_id END;
    place := CASE WHEN p_is_error THEN b.error_chunks ELSE b.output_chunks END;
    IF target IS NULL THEN
        target := new_uuid7();
        INSERT INTO files (file_id, tenant_id, purpose, filename, expires_at) VALUES (target, b.tenant_id, 'batch_output',
            'batch_' || p_batch || CASE WHEN p_is_error THEN '_error.jsonl' ELSE '_output.jsonl' END, clock_timestamp() + interval '30 days');
    END IF;
    FOR piece IN 0 .. (length(content) - 1) / 4194304 LOOP
        INSERT INTO file_chunks (file_id, position, tenant_id, content)
            VALUES (target, place, b.tenant_id, substr(content, piece * 4194304 + 1, 4194304));
        place := place + 1;
    END LOOP;
    UPDATE files SET bytes = bytes + length(content) WHERE file_id = target;
    IF p_is_error THEN
        UPDATE batches SET error_file_id = target, error_chunks = place WHERE batch_id = p_batch;
    ELSE
        UPDATE batches SET output_file_id = target, output_chunks = place WHERE batch_id = p_batch;
    END IF;
END
$$;

-- Lines up to here were read: jobs were made of them, but for p_skipped, which are p_lines of the errors.
CREATE FUNCTION note_batch_reading(
    p_batch uuid, p_claim integer, p_read_lines integer, p_position integer, p_offset integer, p_skipped integer, p_lines text
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE batches b SET read_lines = p_read_lines, read_position = p_position, read_offset = p_offset, skipped = b.skipped + p_skipped,
        failed = b.failed + p_skipped
    WHERE b.batch_id = p_batch AND b.claim = p_claim;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_skipped > 0 THEN
        PERFORM append_batch_lines(p_batch, true, p_lines);
    END IF;
    RETURN true;
END
$$;

-- Writes the ends of at most p_limit jobs into the two files, in the order of the lines, up to the first that has not ended; and ends the batch
-- when there are no more. Files, counts and the place up to which was collected change together, so a line is written once. Answers how many were
-- collected, or -1 where the claim is lost.
CREATE FUNCTION collect_batch(p_batch uuid, p_claim integer, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    b batches%ROWTYPE;
    output text;
    errors text;
    part record;
    ending text;
    is_over boolean;
BEGIN
    SELECT * INTO b FROM batches WHERE batch_id = p_batch AND claim = p_claim FOR UPDATE;
    IF NOT FOUND THEN
        RETURN -1;
    END IF;
    is_over := b.state <> 'cancelling' AND b.expires_at <= clock_timestamp();
    WITH next AS MATERIALIZED (
        SELECT j.job_id, j.custom_id, j.state, j.http_status, j.error_code, j.answer,
            count(*) FILTER (WHERE j.state IN ('queued', 'processing')) OVER (ORDER BY j.job_id) AS open_before,
            sum(coalesce(length(j.answer), 0)) OVER (ORDER BY j.job_id) - coalesce(length(j.answer), 0) AS bytes_before
        FROM (SELECT * FROM jobs q WHERE q.batch_id = p_batch AND q.job_id > b.collected_to ORDER BY q.job_id LIMIT p_limit) j
    ), ended AS MATERIALIZED (
        -- Of large answers fewer at once: what is built here stands in memory.
        SELECT n.*, l.input_tokens, l.cached_input_tokens, l.output_tokens FROM next n LEFT JOIN ledger l ON l.entry_id = n.job_id
        WHERE n.open_before = 0 AND n.bytes_before < 8388608
    )
    SELECT count(*)::integer AS jobs, (max(e.job_id::text))::uuid AS last, count(*) FILTER (WHERE e.state = 'completed')::integer AS completed,
        coalesce(sum(e.input_tokens), 0)::bigint AS input, coalesce(sum(e.cached_input_tokens), 0)::bigint AS cached,
        coalesce(sum(e.output_tokens), 0)::bigint AS produced,
        string_agg(CASE WHEN e.state = 'completed' THEN '{"id": ' || to_json('batch_req_' || e.job_id) || ', "custom_id": ' || to_json(e.custom_id)
            || ', "response": {"status_code": 200, "request_id": ' || to_json('req_' || e.job_id) || ', "body": '
            -- White space between tokens is all that a line feed can be in JSON.
            || translate(convert_from(e.answer, 'UTF8'), E'\r\n', '  ') || '}, "error": null}' || E'\n' END, '' ORDER BY e.job_id) AS output,
        string_agg(CASE
            WHEN e.state = 'failed' THEN '{"id": ' || to_json('batch_req_' || e.job_id) || ', "custom_id": ' || to_json(e.custom_id)
                || ', "response": {"status_code": ' || coalesce(e.http_status, 500) || ', "request_id": ' || to_json('req_' || e.job_id)
                || ', "body": {"error": {"message": ' || to_json('The request failed: ' || coalesce(e.error_code, 'internal_error'))
                || ', "type": ' || to_json(CASE WHEN coalesce(e.http_status, 500) < 500 THEN 'invalid_request_error' ELSE 'server_error' END::text)
                || ', "param": null, "code": ' || to_json(coalesce(e.error_code, 'internal_error')) || '}}}, "error": null}' || E'\n'
            WHEN e.state <> 'completed' THEN '{"id": ' || to_json('batch_req_' || e.job_id) || ', "custom_id": ' || to_json(e.custom_id)
                || ', "response": null, "error": {"code": ' || CASE WHEN is_over OR e.state = 'expired'
                    THEN '"batch_expired", "message": "The batch expired before this request was answered."}}'
                    ELSE '"batch_cancelled", "message": "This request was cancelled before it was answered."}}' END || E'\n' END,
            '' ORDER BY e.job_id) AS errors
    INTO part FROM ended e;
    IF part.jobs > 0 THEN
        UPDATE batches SET collected = collected + part.jobs, collected_to = part.last, completed = completed + part.completed,
            failed = failed + part.jobs - part.completed, input_tokens = input_tokens + part.input,
            cached_tokens = cached_tokens + part.cached, output_tokens = output_tokens + part.produced
            WHERE batch_id = p_batch;
        IF part.output IS NOT NULL THEN
            PERFORM append_batch_lines(p_batch, false, part.output);
        END IF;
        IF part.errors IS NOT NULL THEN
            PERFORM append_batch_lines(p_batch, true, part.errors);
        END IF;
    END IF;
    IF b.collected + part.jobs + b.skipped = b.total AND b.state IN ('in_progress', 'finalizing', 'cancelling') THEN
        ending := CASE WHEN b.state = 'cancelling' THEN 'cancelled' WHEN is_over AND (b.skipped > 0
                OR EXISTS (SELECT FROM jobs j WHERE j.batch_id = p_batch AND j.state IN ('cancelled', 'expired'))) THEN 'expired'
            ELSE 'completed' END;
        UPDATE files SET is_complete = true WHERE file_id IN (SELECT unnest(ARRAY[output_file_id, error_file_id]) FROM batches WHERE batch_id = p_batch);
        UPDATE batches SET state = ending, finalizing_at = CASE WHEN ending = 'completed' THEN clock_timestamp() END,
            completed_at = CASE WHEN ending = 'completed' THEN clock_timestamp() END,
            expired_at = CASE WHEN ending = 'expired' THEN clock_timestamp() END,
            cancelled_at = CASE WHEN ending = 'cancelled' THEN clock_timestamp() END
            WHERE batch_id = p_batch;
    END IF;
    RETURN part.jobs;
END
$$;

-- Removes files that are past their end and uploads that nobody finished, at most p_limit of them. The input of a batch that runs stays.
CREATE FUNCTION remove_expired_files(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH old AS MATERIALIZED (
        SELECT f.file_id FROM files f
        WHERE (f.expires_at <= clock_timestamp()
                OR NOT f.is_complete AND f.purpose = 'batch' AND f.created_at < clock_timestamp() - interval '1 hour')
            AND NOT EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        ORDER BY f.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM files f USING old WHERE f.file_id = old.file_id RETURNING 1
    )
    SELECT count(*)::integer FROM removed
    $$;
REVOKE ALL ON FUNCTION claim_batch, hold_batch, read_batch_input, finish_batch_validation, append_batch_lines, note_batch_reading, collect_batch,
    remove_expired_files FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_batch, hold_batch, read_batch_input, finish_batch_validation, note_batch_reading, collect_batch TO weir_writer;
GRANT EXECUTE ON FUNCTION remove_expired_files TO weir_jobs;

-- What is left of a job of a batch stays until it is surely collected.
CREATE FUNCTION keep_batch_job() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.expires_at := greatest(NEW.expires_at, NEW.ended_at + interval '72 hours');
    RETURN NEW;
END
$$;
CREATE TRIGGER jobs_of_batches_stay BEFORE UPDATE OF ended_at ON jobs FOR EACH ROW
    WHEN (NEW.batch_id IS NOT NULL AND NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION keep_batch_job();

-- A job that came alone has ended. Those of a batch are told of by the batch.
CREATE FUNCTION tell_of_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM raise_webhook_event(NEW.tenant_id, new_uuid7(), 'job.' || NEW.state, NEW.ended_at, json_build_object(
        'object', 'job', 'request_id', 'req_' || NEW.job_id, 'status', NEW.state, 'model', NEW.model, 'error_code', NEW.error_code,
        'created_at', rfc3339(NEW.created_at), 'completed_at', rfc3339(NEW.ended_at)));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION tell_of_job FROM PUBLIC;
CREATE TRIGGER jobs_are_told AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (NEW.batch_id IS NULL AND NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION tell_of_job();

CREATE FUNCTION tell_of_batch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM raise_webhook_event(NEW.tenant_id, new_uuid7(), 'batch.' || NEW.state, clock_timestamp(), json_build_object(
        'object', 'batch', 'id', 'batch_' || NEW.batch_id, 'status', NEW.state, 'request_counts',
        json_build_object('total', NEW.total, 'completed', NEW.completed, 'failed', NEW.failed)));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION tell_of_batch FROM PUBLIC;
CREATE TRIGGER batches_are_told AFTER UPDATE OF state ON batches FOR EACH ROW
    WHEN (NEW.state IN ('completed', 'failed', 'expired', 'cancelled') AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION tell_of_batch();

ALTER TABLE files ENABLE ROW LEVEL SECURITY;
ALTER TABLE file_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE batches ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON files TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON file_chunks TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON batches TO weir_customer
    USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()));
GRANT SELECT, INSERT, DELETE, UPDATE (bytes, is_complete) ON files TO weir_customer;
GRANT SELECT, INSERT ON file_chunks TO weir_customer;
GRANT SELECT, INSERT, UPDATE (state, cancelling_at, due_at) ON batches TO weir_customer;

"""#),
        (name: "0024_results", sql: #"""
-- What is kept of prompts and results: each content once for a tenant, for a time, and gone when the tenant wants less to be kept.

-- How long results are kept. A tenant's own word goes before its tier's.
ALTER TABLE tier_versions
    DROP CONSTRAINT tier_versions_result_ttl_seconds_check,
    ADD CONSTRAINT tier_versions_result_ttl_seconds_check CHECK (result_ttl_seconds BETWEEN 1 AND 315360000);
ALTER TABLE tenants
    ADD COLUMN result_ttl_seconds integer CHECK (result_ttl_seconds BETWEEN 1 AND 315360000),
    -- A prompt or a result that is larger is kept as its digest.
    ADD COLUMN retention_max_bytes integer NOT NULL DEFAULT 1048576 CHECK (retention_max_bytes BETWEEN 0 AND 16777216),
    -- Grows each time when less is to be kept. It is part of a content's id, so that nothing that is kept later refers to what is erased now.
    ADD COLUMN retention_generation integer NOT NULL DEFAULT 0;

-- A content's id follows from its tenant, its generation, its type and its SHA-256: equal results are one row, and whoever settles needs
-- to look for nothing. Rows of before have the id of their request.
--
-- touched_at is the last time, to ten minutes, that a request was settled with it. A content is removed when that and the time to live are over, so
-- a request that finds it touched within the last ten minutes need not touch it again: it stays for as long as that request's result has to.
--
-- The conditions do not look at the rows that are there: that would read the whole tables.
ALTER TABLE results
    ADD COLUMN sha256 bytea,
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN touched_at timestamptz NOT NULL DEFAULT now(),
    ADD CONSTRAINT results_sha256 CHECK (length(sha256) = 32) NOT VALID;
ALTER TABLE binary_results
    ADD COLUMN sha256 bytea,
    ADD COLUMN generation integer NOT NULL DEFAULT 0,
    ADD COLUMN touched_at timestamptz NOT NULL DEFAULT now(),
    ADD CONSTRAINT binary_results_sha256 CHECK (length(sha256) = 32) NOT VALID;
CREATE INDEX results_by_age ON results (tenant_id, touched_at);
CREATE INDEX binary_results_by_age ON binary_results (tenant_id, touched_at);

-- The digest of a result, also where no more is kept of it.
ALTER TABLE requests ADD COLUMN result_sha256 bytea;

-- What was not completed is rare, and what people look for: without this they would have to read through everything else.
CREATE INDEX requests_not_completed ON requests (tenant_id, request_id) WHERE status <> 'completed';

CREATE FUNCTION result_ttl(p_tenant uuid) RETURNS interval
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(
        (SELECT result_ttl_seconds FROM tenants WHERE tenant_id = p_tenant),
        (SELECT v.result_ttl_seconds FROM subscriptions s JOIN tier_versions v USING (tier_version_id)
            WHERE s.tenant_id = p_tenant AND s.ends_at IS NULL),
        86400) * interval '1 second'
    $$;

-- What has still to be erased because a tenant wants less to be kept than before; one at a time for a tenant.
CREATE TABLE retention_erasures (
    tenant_id    uuid PRIMARY KEY REFERENCES tenants,
    -- What may stay.
    policy       text NOT NULL CHECK (policy IN ('hashed', 'none')),
    -- Contents of earlier generations go.
    generation   integer NOT NULL,
    asked_at     timestamptz NOT NULL,
    -- When it goes on.
    due_at       timestamptz NOT NULL,
    -- The first pass goes through all requests. The second one, later, sees again those that were under way when it was asked for.
    pass         smallint NOT NULL DEFAULT 1 CHECK (pass IN (1, 2)),
    -- Requests up to this one are done.
    position     uuid NOT NULL,
    finished_at  timestamptz
);
CREATE INDEX retention_erasures_due ON retention_erasures (due_at) WHERE finished_at IS NULL;

-- Whoever changes the policy, by whatever way, asks for the erasure in the same transaction.
CREATE FUNCTION ask_for_erasure() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF array_position(ARRAY['none', 'hashed', 'full'], NEW.retention) >= array_position(ARRAY['none', 'hashed', 'full'], OLD.retention) THEN
        RETURN NEW;
    END IF;
    NEW.retention_generation := OLD.retention_generation + 1;
    -- Where an earlier erasure has not ended, the stricter of the two policies holds for both.
    INSERT INTO retention_erasures AS e (tenant_id, policy, generation, asked_at, due_at, position)
    VALUES (NEW.tenant_id, NEW.retention, NEW.retention_generation, clock_timestamp(), clock_timestamp(),
        '00000000-0000-0000-0000-000000000000')
    ON CONFLICT (tenant_id) DO UPDATE SET
        policy = CASE WHEN e.finished_at IS NULL AND e.policy = 'none' THEN 'none' ELSE EXCLUDED.policy END,
        generation = EXCLUDED.generation, asked_at = EXCLUDED.asked_at, due_at = EXCLUDED.due_at, pass = 1,
        position = EXCLUDED.position, finished_at = NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER tenants_retention BEFORE UPDATE OF retention ON tenants
    FOR EACH ROW EXECUTE FUNCTION ask_for_erasure();

-- Erases a batch of what tenants no longer want to be kept, and answers how many rows it has looked at; 0 when nothing is due.
--
-- Contents go by their generation, requests in the order of their ids. Nothing is waited for that a settlement has locked, so that neither
-- waits for the other in a circle; the second pass finds it. Requests that came more than five seconds after the change are
-- left alone: by then every gateway knows of it, and a tenant may keep more again.
CREATE FUNCTION erase_kept(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    erasure retention_erasures;
    looked integer;
    last uuid;
BEGIN
    SELECT * INTO erasure FROM retention_erasures WHERE finished_at IS NULL AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM binary_results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM binary_results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH page AS MATERIALIZED (
        SELECT request_id FROM requests
        WHERE tenant_id = erasure.tenant_id AND request_id > erasure.position
            AND request_id < uuid_lower_bound(erasure.asked_at + interval '5 seconds')
        ORDER BY request_id LIMIT p_limit
    ), erased AS (
        UPDATE requests r SET prompt = NULL,
            prompt_sha256 = CASE WHEN erasure.policy = 'hashed'
                THEN coalesce(r.prompt_sha256, sha256(convert_to(r.prompt, 'UTF8'))) END,
            result_sha256 = CASE WHEN erasure.policy = 'hashed' THEN r.result_sha256 END
        FROM page
        WHERE r.request_id = page.request_id AND (r.prompt IS NOT NULL
            OR erasure.policy = 'none' AND (r.prompt_sha256 IS NOT NULL OR r.result_sha256 IS NOT NULL))
    )
    SELECT count(*), (array_agg(request_id ORDER BY request_id DESC))[1] INTO looked, last FROM page;
    IF looked > 0 THEN
        UPDATE retention_erasures SET position = last WHERE tenant_id = erasure.tenant_id;
        RETURN looked;
    END IF;
    -- A request that was under way had begun under the old policy; no request takes longer than this.
    UPDATE retention_erasures SET
        pass = 2,
        position = uuid_lower_bound(erasure.asked_at - interval '1 day'),
        due_at = erasure.asked_at + interval '15 minutes',
        finished_at = CASE WHEN erasure.pass = 2 THEN clock_timestamp() END
        WHERE tenant_id = erasure.tenant_id;
    RETURN 1;
END
$$;

-- Removes at most p_limit contents that nobody has used for their time to live, and answers how many.
--
-- A settlement that needs one of them at this moment waits for the row's lock and makes it anew; if it was first, the row is no longer due.
CREATE FUNCTION remove_expired_results(p_limit integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    WITH due AS MATERIALIZED (
        SELECT old.result_id FROM tenants t CROSS JOIN LATERAL (
            SELECT r.result_id FROM results r
            WHERE r.tenant_id = t.tenant_id AND r.touched_at < statement_timestamp() - interval '10 minutes' - result_ttl(t.tenant_id)
            ORDER BY r.touched_at LIMIT p_limit FOR UPDATE SKIP LOCKED
        ) old LIMIT p_limit
    ), due_binary AS MATERIALIZED (
        SELECT old.result_id FROM tenants t CROSS JOIN LATERAL (
            SELECT r.result_id FROM binary_results r
            WHERE r.tenant_id = t.tenant_id AND r.touched_at < statement_timestamp() - interval '10 minutes' - result_ttl(t.tenant_id)
            ORDER BY r.touched_at LIMIT p_limit FOR UPDATE SKIP LOCKED
        ) old LIMIT greatest(p_limit - (SELECT count(*) FROM due), 0)
    ), removed AS (
        DELETE FROM results r USING due WHERE r.result_id = due.result_id RETURNING 1
    ), removed_binary AS (
        DELETE FROM binary_results r USING due_binary d WHERE r.result_id = d.result_id RETURNING 1
    )
    SELECT (SELECT count(*) FROM removed)::integer + (SELECT count(*) FROM removed_binary)::integer
    $$;

ALTER TABLE retention_erasures ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON retention_erasures FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY administration ON retention_erasures FOR SELECT TO weir_admin USING (true);
CREATE POLICY settlement ON binary_results FOR INSERT TO weir_writer WITH CHECK (true);
-- The writer sees of a content that it is there and how fresh it is, and makes it fresh.
CREATE POLICY settled_keys ON binary_results FOR SELECT TO weir_writer USING (true);
CREATE POLICY touch ON results FOR UPDATE TO weir_writer USING (true) WITH CHECK (true);
CREATE POLICY touch ON binary_results FOR UPDATE TO weir_writer USING (true) WITH CHECK (true);
GRANT INSERT ON binary_results TO weir_writer;
GRANT SELECT (result_id, touched_at), UPDATE (touched_at) ON results, binary_results TO weir_writer;
GRANT SELECT ON retention_erasures TO weir_reader, weir_admin;

REVOKE ALL ON FUNCTION result_ttl, ask_for_erasure, erase_kept, remove_expired_results FROM PUBLIC;
GRANT EXECUTE ON FUNCTION result_ttl TO weir_reader;
GRANT EXECUTE ON FUNCTION erase_kept, remove_expired_results TO weir_jobs;

"""#),
        (name: "0025_results_of_jobs", sql: #"""
-- What results and retention mean for jobs.

-- A job's result has a digest as any other, and is kept as long as the tenant says, else its tier.
GRANT UPDATE (result_sha256) ON requests TO weir_writer;

-- Runs with the owner's rights: the writer sees neither tenants nor what they agreed on.
CREATE FUNCTION job_result_ttl(p_tenant uuid, p_tier_version uuid) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT coalesce(
        (SELECT result_ttl_seconds FROM tenants WHERE tenant_id = p_tenant),
        (SELECT result_ttl_seconds FROM tier_versions WHERE tier_version_id = p_tier_version),
        86400)
    $$;
REVOKE ALL ON FUNCTION job_result_ttl FROM PUBLIC;
GRANT EXECUTE ON FUNCTION job_result_ttl TO weir_writer;

-- A job can be submitted a week before it runs, and run for a day: the second look begins before the oldest of them.
CREATE OR REPLACE FUNCTION erase_kept(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    erasure retention_erasures;
    looked integer;
    last uuid;
BEGIN
    SELECT * INTO erasure FROM retention_erasures WHERE finished_at IS NULL AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM binary_results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM binary_results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- Of jobs that have ended, the answer is a result, and what is left of a dead one's payload is a prompt. Files of batches are the
    -- tenant's own to remove.
    WITH old AS MATERIALIZED (
        SELECT job_id FROM jobs WHERE tenant_id = erasure.tenant_id AND ended_at < erasure.asked_at
            AND expires_at > clock_timestamp() AND batch_id IS NULL
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET answer = CASE WHEN state = 'completed' THEN ''::bytea END, payload = NULL, expires_at = clock_timestamp()
        FROM old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH page AS MATERIALIZED (
        SELECT request_id FROM requests
        WHERE tenant_id = erasure.tenant_id AND request_id > erasure.position
            AND request_id < uuid_lower_bound(erasure.asked_at + interval '5 seconds')
        ORDER BY request_id LIMIT p_limit
    ), erased AS (
        UPDATE requests r SET prompt = NULL,
            prompt_sha256 = CASE WHEN erasure.policy = 'hashed'
                THEN coalesce(r.prompt_sha256, sha256(convert_to(r.prompt, 'UTF8'))) END,
            result_sha256 = CASE WHEN erasure.policy = 'hashed' THEN r.result_sha256 END
        FROM page
        WHERE r.request_id = page.request_id AND (r.prompt IS NOT NULL
            OR erasure.policy = 'none' AND (r.prompt_sha256 IS NOT NULL OR r.result_sha256 IS NOT NULL))
    )
    SELECT count(*), (array_agg(request_id ORDER BY request_id DESC))[1] INTO looked, last FROM page;
    IF looked > 0 THEN
        UPDATE retention_erasures SET position = last WHERE tenant_id = erasure.tenant_id;
        RETURN looked;
    END IF;
    -- A request that was under way had begun under the old policy; no request takes longer than this, and no job waits longer than a week.
    UPDATE retention_erasures SET
        pass = 2,
        position = uuid_lower_bound(erasure.asked_at - interval '9 days'),
        due_at = erasure.asked_at + interval '15 minutes',
        finished_at = CASE WHEN erasure.pass = 2 THEN clock_timestamp() END
        WHERE tenant_id = erasure.tenant_id;
    RETURN 1;
END
$$;

"""#),
        (name: "0026_batch_fences", sql: #"""
-- What a keeper of a batch does after it has lost the batch, or did and did not note, makes no line be there twice.

-- The batches of p_batches that run, and whose claim each is. They stay so until the transaction is over: jobs that are submitted in it are there
-- before anybody cancels the batch or claims it.
CREATE FUNCTION share_batches(p_batches uuid[]) RETURNS TABLE (batch uuid, holder integer)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT b.batch_id, b.claim FROM batches b WHERE b.batch_id = ANY (p_batches) AND b.state = 'in_progress' ORDER BY b.batch_id FOR SHARE
    $$;

-- Lines up to here were read. Those of p_jobs became none, but where there is a job: an earlier keeper submitted it and did not come to note it.
-- The others are p_lines of the errors.
DROP FUNCTION note_batch_reading(uuid, integer, integer, integer, integer, integer, text);
CREATE FUNCTION note_batch_reading(
    p_batch uuid, p_claim integer, p_read_lines integer, p_position integer, p_offset integer, p_jobs uuid[], p_lines text[]
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    part record;
BEGIN
    PERFORM FROM batches b WHERE b.batch_id = p_batch AND b.claim = p_claim FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- No job comes any more: who submits has to hold the claim, and this is the holder.
    SELECT count(*)::integer AS lines, string_agg(s.line, '' ORDER BY s.place) AS content INTO part
    FROM unnest(p_jobs, p_lines) WITH ORDINALITY AS s (job_id, line, place)
    WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.job_id = s.job_id);
    UPDATE batches b SET read_lines = p_read_lines, read_position = p_position, read_offset = p_offset, skipped = b.skipped + part.lines,
        failed = b.failed + part.lines
    WHERE b.batch_id = p_batch;
    IF part.lines > 0 THEN
        PERFORM append_batch_lines(p_batch, true, part.content);
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION share_batches(uuid[]), note_batch_reading(uuid, integer, integer, integer, integer, uuid[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION share_batches(uuid[]), note_batch_reading(uuid, integer, integer, integer, integer, uuid[], text[]) TO weir_writer;

-- A settlement that is sent again writes the end of its job again, and must not shorten its stay either.
CREATE OR REPLACE TRIGGER jobs_of_batches_stay BEFORE UPDATE OF ended_at, expires_at ON jobs FOR EACH ROW
    WHEN (NEW.batch_id IS NOT NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION keep_batch_job();

"""#),
        (name: "0027_queue_turns", sql: #"""
-- Turns of the queue: tenants whose jobs wait for later keep nobody from his turn, jobs of a lost process come back apart, and a dead line of a
-- batch that has told of it stays dead.

-- Each queued job is in one of two indexes by tenant. One for both would let a claim walk through all that is not ready: so it has no choice.
CREATE INDEX jobs_ready ON jobs (tenant_id, priority DESC, job_id) WHERE state = 'queued' AND is_ready;
CREATE INDEX jobs_waiting_of_tenant ON jobs (tenant_id) WHERE state = 'queued' AND NOT is_ready;
DROP INDEX jobs_queue;

-- Claims at most p_limit ready jobs for an owner, and counts their attempts.
--
-- The tenants with ready jobs come in turn, from the one after p_after on and round again, at most p_tenants of them in one call; each gets
-- the same share, and what some leave is given to the others. Within a tenant the highest priority comes first, and of the same priority the
-- oldest. The work is bounded by p_limit and p_tenants, however much waits and however many tenants have jobs for later.
-- Every row repeats the tenant after which the next call goes on. Where nothing was claimed, because what was ready was overdue or is held by
-- another at this moment, one row has that tenant alone: else the next call would look at the same tenants again.
CREATE FUNCTION claim_ready_jobs(p_owner uuid, p_limit integer, p_lease_ms bigint, p_after uuid, p_tenants integer)
    RETURNS TABLE (job uuid, tenant uuid, key uuid, public_id text, batch uuid, operation text, path_model text, path_version text,
        payload bytea, head_fields text, attempt integer, attempt_limit integer, submitted_at timestamptz, go_on_after uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
    AS $$
DECLARE
    tenants uuid[] := '{}';
    one uuid;
    last uuid := p_after;
    has_wrapped boolean := p_after = '00000000-0000-0000-0000-000000000000';
    claimed uuid[] := '{}';
    taken uuid[];
    share integer;
    room integer := p_limit;
    overdue uuid[];
BEGIN
    UPDATE jobs j SET is_ready = true FROM (
        SELECT w.job_id FROM jobs w WHERE w.state = 'queued' AND NOT w.is_ready AND w.run_at <= clock_timestamp()
        ORDER BY w.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) due WHERE j.job_id = due.job_id;

    WHILE cardinality(tenants) < p_tenants LOOP
        SELECT q.tenant_id INTO one FROM jobs q WHERE q.state = 'queued' AND q.is_ready AND q.tenant_id > last
            ORDER BY q.tenant_id LIMIT 1;
        IF NOT FOUND THEN
            EXIT WHEN has_wrapped;
            has_wrapped := true;
            last := '00000000-0000-0000-0000-000000000000';
            CONTINUE;
        END IF;
        EXIT WHEN has_wrapped AND p_after <> '00000000-0000-0000-0000-000000000000' AND one > p_after;
        tenants := tenants || one;
        last := one;
    END LOOP;

    last := p_after;
    -- The second round gives what is left to those who have more.
    FOR round IN 1 .. 2 LOOP
        EXIT WHEN room = 0 OR cardinality(tenants) = 0;
        share := CASE round WHEN 1 THEN (room + cardinality(tenants) - 1) / cardinality(tenants) ELSE room END;
        FOREACH one IN ARRAY tenants LOOP
            EXIT WHEN room = 0;
            taken := ARRAY(SELECT q.job_id FROM jobs q
                WHERE q.state = 'queued' AND q.tenant_id = one AND q.is_ready AND q.job_id <> ALL (claimed)
                ORDER BY q.priority DESC, q.job_id LIMIT least(share, room) FOR UPDATE SKIP LOCKED);
            claimed := claimed || taken;
            room := room - cardinality(taken);
            IF round = 1 THEN
                last := one;
            END IF;
        END LOOP;
    END LOOP;

    WITH ended AS (
        UPDATE jobs j SET state = 'expired', is_ready = false, payload = NULL, ended_at = clock_timestamp(),
            expires_at = clock_timestamp() + interval '24 hours', ended_tx = pg_current_xact_id()
        FROM unnest(claimed) AS c (job_id) WHERE j.job_id = c.job_id AND j.deadline_at <= clock_timestamp()
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'expired', completed_at = clock_timestamp() FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT coalesce(array_agg(e.job_id), '{}') INTO overdue FROM ended e;
    IF cardinality(overdue) > 0 THEN
        claimed := ARRAY(SELECT c FROM unnest(claimed) AS c WHERE c <> ALL (overdue));
    END IF;

    RETURN QUERY
        WITH leased AS (
            UPDATE jobs j SET state = 'processing', is_ready = false, attempt = j.attempt + 1, lease_owner = p_owner,
                lease_expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond', started_at = clock_timestamp()
            FROM unnest(claimed) AS c (job_id) WHERE j.job_id = c.job_id
            RETURNING j.*
        ), recorded AS (
            UPDATE requests r SET status = 'processing', started_at = l.started_at FROM leased l WHERE r.request_id = l.job_id
        )
        SELECT l.job_id, l.tenant_id, l.key_id, k.public_id, l.batch_id, l.operation, l.path_model, l.path_version, l.payload, l.head_fields,
            l.attempt, l.attempt_limit, l.created_at, last
        FROM unnest(claimed) WITH ORDINALITY AS c (job_id, position)
        JOIN leased l ON l.job_id = c.job_id
        LEFT JOIN api_keys k ON k.key_id = l.key_id;
    IF NOT FOUND THEN
        go_on_after := last;
        RETURN NEXT;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION claim_ready_jobs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION claim_ready_jobs TO weir_writer;

-- For processes of the version before, until they are replaced.
CREATE OR REPLACE FUNCTION claim_jobs(p_owner uuid, p_limit integer, p_lease_ms bigint, p_after uuid, p_tenants integer)
    RETURNS TABLE (job uuid, tenant uuid, key uuid, public_id text, batch uuid, operation text, path_model text, path_version text,
        payload bytea, head_fields text, attempt integer, attempt_limit integer, submitted_at timestamptz, go_on_after uuid)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT * FROM claim_ready_jobs(p_owner, p_limit, p_lease_ms, p_after, p_tenants) c WHERE c.job IS NOT NULL
    $$;

-- Gives back what dead owners held: jobs whose lease has run out wait for their next attempt, and those whose attempts are used up are dead.
-- Answers how many of each.
--
-- One of them may have been the reason why the process died. All are suspects, and those that run together with the culprit again lose
-- another attempt; so they come back apart, after anything up to a pause that quadruples with every attempt. The pause is drawn from id and attempt.
CREATE FUNCTION recover_jobs(p_limit integer, p_backoff_ms bigint, p_backoff_limit_ms bigint, OUT returned integer, OUT dead integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    lost uuid[];
BEGIN
    lost := ARRAY(SELECT j.job_id FROM jobs j WHERE j.state = 'processing' AND j.lease_expires_at < clock_timestamp()
        ORDER BY j.lease_expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    WITH again AS (
        UPDATE jobs j SET state = 'queued', is_ready = false,
            run_at = clock_timestamp() + interval '1 millisecond' * ((hashtextextended(j.job_id::text, j.attempt) & 9223372036854775807)
                % (least(p_backoff_ms << least(2 * j.attempt - 1, 20), p_backoff_limit_ms) + 1)),
            lease_owner = NULL, lease_expires_at = NULL, error_code = 'lease_expired', error_detail = 'The process that ran it has gone.'
        WHERE j.job_id = ANY (lost) AND j.attempt < j.attempt_limit
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'queued' FROM again a WHERE r.request_id = a.job_id
    )
    SELECT count(*) INTO returned FROM again;
    WITH ended AS (
        UPDATE jobs j SET state = 'failed', is_dead = true, lease_owner = NULL, lease_expires_at = NULL, error_code = 'internal_error',
            http_status = 500, error_detail = 'The process that ran it has gone each time.', ended_at = clock_timestamp(),
            expires_at = clock_timestamp() + interval '7 days', ended_tx = pg_current_xact_id()
        WHERE j.job_id = ANY (lost) AND j.state = 'processing'
            AND j.attempt >= j.attempt_limit
        RETURNING j.job_id
    ), recorded AS (
        UPDATE requests r SET status = 'failed', http_status = 500, error_code = 'internal_error', completed_at = clock_timestamp(),
            tx = pg_current_xact_id()
        FROM ended e WHERE r.request_id = e.job_id
    )
    SELECT count(*) INTO dead FROM ended;
END
$$;
REVOKE ALL ON FUNCTION recover_jobs(integer, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION recover_jobs(integer, bigint, bigint) TO weir_writer;

CREATE OR REPLACE FUNCTION recover_jobs(p_limit integer, OUT returned integer, OUT dead integer)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT r.returned, r.dead FROM recover_jobs(p_limit, 1000, 300000) r $$;

-- Gives a dead job five more attempts: 'retried'. 'unknown' where it is not dead. 'reported' where it is a line of a batch that has told of its
-- failure or takes no more answers: what it came to now would be charged, and in no output.
CREATE FUNCTION retry_job(p_job uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    subject uuid;
BEGIN
    SELECT j.batch_id INTO subject FROM jobs j WHERE j.job_id = p_job AND j.is_dead;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    IF subject IS NOT NULL THEN
        -- Collection holds the row while it reads the jobs.
        PERFORM FROM batches b
            WHERE b.batch_id = subject AND b.state = 'in_progress' AND b.expires_at > clock_timestamp() AND b.collected_to < p_job
            FOR UPDATE;
        IF NOT FOUND THEN
            RETURN 'reported';
        END IF;
    END IF;
    UPDATE jobs j SET state = 'queued', is_ready = true, is_dead = false, attempt_limit = j.attempt + 5, run_at = clock_timestamp(),
        deadline_at = greatest(j.deadline_at, clock_timestamp() + interval '24 hours'), ended_at = NULL, expires_at = NULL,
        ended_tx = NULL, http_status = NULL
    WHERE j.job_id = p_job AND j.is_dead;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    UPDATE requests r SET status = 'queued', http_status = NULL, error_code = NULL, completed_at = NULL WHERE r.request_id = p_job;
    RETURN 'retried';
END
$$;
REVOKE ALL ON FUNCTION retry_job FROM PUBLIC;
GRANT EXECUTE ON FUNCTION retry_job TO weir_admin;

CREATE OR REPLACE FUNCTION retry_dead_job(p_job uuid) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT retry_job(p_job) = 'retried' $$;

"""#),
        (name: "0028_bounds_and_retention", sql: #"""
-- Bounds that hold for each tenant, and what a tenant's retention means for jobs that are dead and for files of batches.

-- The history is read in an order that these indexes have and the primary key's has not. Else the planner takes the primary key's for tenants
-- that have most of the requests, and then a page walks past whatever the others have sent since.
DROP INDEX requests_by_tenant;
CREATE INDEX requests_by_tenant ON requests (tenant_id, request_id DESC NULLS LAST);
DROP INDEX requests_not_completed;
CREATE INDEX requests_not_completed ON requests (tenant_id, request_id DESC NULLS LAST) WHERE status <> 'completed';

-- Attempts that were claimed and could not be made, which was our fault; the customer is not told of them. Attempts themselves cannot go back,
-- because their number is the fence.
ALTER TABLE webhook_deliveries ADD COLUMN uncounted integer NOT NULL DEFAULT 0 CHECK (uncounted BETWEEN 0 AND attempts);
CREATE INDEX webhook_deliveries_of_tenant_under_way ON webhook_deliveries (tenant_id) WHERE state = 'sending';

-- Takes deliveries that are due, for one attempt each: at most p_limit, at most p_per_webhook under way at one webhook, one at a webhook that
-- fails, and at most p_per_tenant at all webhooks of one tenant, so that neither a dead receiver nor a tenant with many slow ones holds up others.
-- One that is not finished within p_lease_ms may be taken again.
--
-- A webhook, and a tenant, that another process is claiming for is passed over, and what is under way is counted after that is sure. So the
-- bounds hold over all processes. What a tenant has room for is divided among its webhooks.
CREATE FUNCTION claim_webhook_deliveries(p_limit integer, p_per_webhook integer, p_per_tenant integer, p_lease_ms bigint) RETURNS TABLE (
    delivery uuid, webhook uuid, tenant uuid, event uuid, attempt integer, tries_now integer, age_ms bigint, target text, secret bytea,
    previous bytea, content text
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    chosen uuid[];
    one uuid;
    owners uuid[] := '{}';
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
            -- A tenant without room would only take the places of others here.
            AND (SELECT count(*) FROM webhook_deliveries b
                WHERE b.tenant_id = w.tenant_id AND b.state = 'sending' AND b.next_attempt_at > began) < p_per_tenant
        ORDER BY random() LIMIT p_limit
        FOR NO KEY UPDATE OF w SKIP LOCKED);
    FOR one IN SELECT DISTINCT w.tenant_id FROM webhooks w WHERE w.webhook_id = ANY (chosen) LOOP
        IF pg_try_advisory_xact_lock(hashtextextended('weir.webhook_claims ' || one, 0)) THEN
            owners := owners || one;
        END IF;
    END LOOP;
    IF cardinality(owners) = 0 THEN
        RETURN;
    END IF;
    began := clock_timestamp();
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT x.delivery_id, x.next_attempt_at, w.tenant_id,
                row_number() OVER (PARTITION BY w.webhook_id ORDER BY x.next_attempt_at) AS place
            FROM webhooks w CROSS JOIN LATERAL (
                SELECT d.delivery_id, d.next_attempt_at FROM webhook_deliveries d
                WHERE d.webhook_id = w.webhook_id AND d.state IN ('waiting', 'sending') AND d.next_attempt_at <= began
                ORDER BY d.next_attempt_at
                LIMIT greatest(0, CASE WHEN w.failing_since IS NULL THEN p_per_webhook ELSE 1 END - (
                    SELECT count(*) FROM webhook_deliveries b
                    WHERE b.webhook_id = w.webhook_id AND b.state = 'sending' AND b.next_attempt_at > began))
                FOR UPDATE SKIP LOCKED
            ) x
            WHERE w.webhook_id = ANY (chosen) AND w.tenant_id = ANY (owners)
        ), ranked AS (
            SELECT d.delivery_id, row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.place, d.next_attempt_at) AS place, d.tenant_id FROM due d
        ), fitting AS (
            SELECT r.delivery_id FROM ranked r
            WHERE r.place <= p_per_tenant - (SELECT count(*) FROM webhook_deliveries b
                WHERE b.tenant_id = r.tenant_id AND b.state = 'sending' AND b.next_attempt_at > began)
            ORDER BY r.place LIMIT p_limit
        ), taken AS (
            UPDATE webhook_deliveries d SET state = 'sending', attempts = d.attempts + 1, tries = d.tries + 1, last_attempt_at = began,
                next_attempt_at = began + p_lease_ms * interval '1 millisecond'
            FROM fitting WHERE d.delivery_id = fitting.delivery_id
            RETURNING d.*
        )
        SELECT t.delivery_id, t.webhook_id, t.tenant_id, t.event_id, t.attempts, t.tries,
            (extract(epoch FROM began - t.tried_from) * 1000)::bigint, w.url, w.sealed_secret,
            CASE WHEN w.previous_until > began THEN w.previous_secret END, e.body
        FROM taken t JOIN webhooks w ON w.webhook_id = t.webhook_id JOIN webhook_events e ON e.event_id = t.event_id;
END
$$;

-- As before, and 'postponed': nothing was sent, and that was our fault. Then the webhook is left as it is, and the delivery too, but that it waits for
-- the pause, which is no part of its schedule.
CREATE OR REPLACE FUNCTION finish_webhook_delivery(
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
    IF p_outcome = 'postponed' THEN
        PERFORM FROM webhooks w WHERE w.webhook_id = hook AND w.state <> 'disabled' FOR NO KEY UPDATE;
        IF FOUND THEN
            UPDATE webhook_deliveries d SET state = 'waiting', tries = d.tries - 1, uncounted = d.uncounted + 1, last_error = p_error,
                last_status = NULL, last_ms = NULL, tried_from = d.tried_from + p_pause_ms * interval '1 millisecond',
                next_attempt_at = clock_timestamp() + p_pause_ms * interval '1 millisecond'
                WHERE d.delivery_id = p_delivery AND d.attempts = p_attempt AND d.state = 'sending';
            RETURN CASE WHEN FOUND THEN (SELECT w.state FROM webhooks w WHERE w.webhook_id = hook) ELSE 'lost' END;
        END IF;
        -- Of a webhook that is disabled nothing waits: it ends as any other attempt there.
    ELSIF p_outcome = 'delivered' THEN
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

-- Until when an operator can give a dead job further attempts: as long its payload is kept, and no longer.
ALTER TABLE jobs ADD COLUMN dead_until timestamptz;
CREATE INDEX jobs_dead_until ON jobs (dead_until) WHERE is_dead;

-- How long the payload of a dead job is kept: it is a prompt, and the tenant says what is kept of those.
CREATE FUNCTION dead_job_ttl(p_tenant uuid) RETURNS interval
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT CASE (SELECT t.retention FROM tenants t WHERE t.tenant_id = p_tenant)
        WHEN 'full' THEN interval '7 days' WHEN 'hashed' THEN interval '24 hours' ELSE interval '1 hour' END
    $$;

CREATE FUNCTION time_dead_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    NEW.dead_until := CASE WHEN NEW.is_dead THEN NEW.ended_at + dead_job_ttl(NEW.tenant_id) END;
    IF NEW.is_dead THEN
        -- What became of it is told for a day, as of any other that failed.
        NEW.expires_at := greatest(NEW.dead_until, NEW.ended_at + interval '24 hours');
    END IF;
    RETURN NEW;
END
$$;
UPDATE jobs j SET dead_until = j.ended_at + dead_job_ttl(j.tenant_id) WHERE j.is_dead;
ALTER TABLE jobs ADD CONSTRAINT jobs_dead_until_check CHECK (is_dead = (dead_until IS NOT NULL));
CREATE TRIGGER jobs_dead_are_timed BEFORE UPDATE OF is_dead ON jobs FOR EACH ROW
    WHEN (NEW.is_dead <> OLD.is_dead) EXECUTE FUNCTION time_dead_job();

-- Removes jobs whose results are past their end, and before that the payloads of dead ones whose time is over, at most p_limit of each. Their requests
-- stay. Answers how many jobs or payloads, whichever were more.
CREATE OR REPLACE FUNCTION remove_expired_jobs(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    payloads integer;
    jobs_removed integer;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.is_dead AND j.dead_until <= clock_timestamp()
        ORDER BY j.dead_until LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET is_dead = false, payload = NULL FROM old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS payloads = ROW_COUNT;
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.expires_at <= clock_timestamp() ORDER BY j.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM jobs j USING old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS jobs_removed = ROW_COUNT;
    RETURN greatest(payloads, jobs_removed);
END
$$;

-- Erases what a dead job of a tenant would need to run again. Answers whether it was dead.
CREATE FUNCTION forget_dead_job(p_tenant uuid, p_job uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE jobs j SET is_dead = false, payload = NULL WHERE j.job_id = p_job AND j.tenant_id = p_tenant AND j.is_dead;
    RETURN FOUND;
END
$$;

-- When the content of a file was whole.
ALTER TABLE files ADD COLUMN completed_at timestamptz;
UPDATE files SET completed_at = created_at WHERE is_complete;

-- What a file of a batch is, a prompt or a result, is kept as long as the tenant says. Who keeps all has them for 30 days. Who does not has an input for a
-- day, and longer only as long as a batch reads it, and an output for as long as the result of a job.
CREATE FUNCTION time_file() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    keeps_all boolean;
BEGIN
    SELECT t.retention = 'full' INTO keeps_all FROM tenants t WHERE t.tenant_id = NEW.tenant_id;
    IF TG_OP = 'INSERT' THEN
        IF NOT keeps_all AND NEW.purpose = 'batch' THEN
            NEW.expires_at := least(NEW.expires_at, NEW.created_at + interval '24 hours');
        END IF;
        RETURN NEW;
    END IF;
    NEW.completed_at := clock_timestamp();
    IF NEW.purpose = 'batch_output' THEN
        NEW.expires_at := clock_timestamp() + CASE WHEN keeps_all THEN interval '30 days'
            ELSE least(result_ttl(NEW.tenant_id), interval '30 days') END;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER files_are_timed BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION time_file();
CREATE TRIGGER complete_files_are_timed BEFORE UPDATE OF is_complete ON files FOR EACH ROW
    WHEN (NEW.is_complete AND NOT OLD.is_complete) EXECUTE FUNCTION time_file();

-- As before, and files of batches, and lines of batches that are collected. A dead job is no longer one: nothing is left that could run again.
CREATE OR REPLACE FUNCTION erase_kept(p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    erasure retention_erasures;
    looked integer;
    last uuid;
BEGIN
    SELECT * INTO erasure FROM retention_erasures WHERE finished_at IS NULL AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT result_id FROM binary_results WHERE tenant_id = erasure.tenant_id AND generation < erasure.generation
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM binary_results r USING old WHERE r.result_id = old.result_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- Of jobs that have ended, the answer is a result, and what is left of a dead one's payload is a prompt. A line of a batch has to be collected
    -- before; its row stays as long as the batch needs it.
    WITH old AS MATERIALIZED (
        SELECT j.job_id FROM jobs j WHERE j.tenant_id = erasure.tenant_id AND j.ended_at < erasure.asked_at
            AND (j.payload IS NOT NULL OR octet_length(j.answer) > 0)
            AND NOT EXISTS (SELECT FROM batches b WHERE b.batch_id = j.batch_id AND b.collected_to < j.job_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET answer = CASE WHEN state = 'completed' THEN ''::bytea END, payload = NULL, is_dead = false,
        expires_at = clock_timestamp()
        FROM old WHERE j.job_id = old.job_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- Outputs are results; an input that a batch has read to its end is of no more use. Each file can be large.
    WITH old AS MATERIALIZED (
        SELECT f.file_id FROM files f WHERE f.tenant_id = erasure.tenant_id AND f.is_complete AND f.completed_at < erasure.asked_at
            AND (f.purpose = 'batch_output' OR EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id)
                OR f.created_at < clock_timestamp() - interval '24 hours')
            AND NOT EXISTS (SELECT FROM batches b WHERE b.input_file_id = f.file_id
                AND b.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        LIMIT least(p_limit, 20) FOR UPDATE SKIP LOCKED
    )
    DELETE FROM files f USING old WHERE f.file_id = old.file_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    -- The inputs that are left wait for a batch, or a batch reads them.
    WITH late AS MATERIALIZED (
        SELECT f.file_id FROM files f WHERE f.tenant_id = erasure.tenant_id AND f.purpose = 'batch'
            AND f.expires_at > f.created_at + interval '24 hours' AND f.created_at < erasure.asked_at + interval '5 seconds'
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    )
    UPDATE files f SET expires_at = f.created_at + interval '24 hours' FROM late WHERE f.file_id = late.file_id;
    GET DIAGNOSTICS looked = ROW_COUNT;
    IF looked > 0 THEN
        RETURN looked;
    END IF;
    WITH page AS MATERIALIZED (
        SELECT request_id FROM requests
        WHERE tenant_id = erasure.tenant_id AND request_id > erasure.position
            AND request_id < uuid_lower_bound(erasure.asked_at + interval '5 seconds')
        ORDER BY request_id NULLS FIRST LIMIT p_limit
    ), erased AS (
        UPDATE requests r SET prompt = NULL,
            prompt_sha256 = CASE WHEN erasure.policy = 'hashed'
                THEN coalesce(r.prompt_sha256, sha256(convert_to(r.prompt, 'UTF8'))) END,
            result_sha256 = CASE WHEN erasure.policy = 'hashed' THEN r.result_sha256 END
        FROM page
        WHERE r.request_id = page.request_id AND (r.prompt IS NOT NULL
            OR erasure.policy = 'none' AND (r.prompt_sha256 IS NOT NULL OR r.result_sha256 IS NOT NULL))
    )
    SELECT count(*), (array_agg(request_id ORDER BY request_id DESC))[1] INTO looked, last FROM page;
    IF looked > 0 THEN
        UPDATE retention_erasures SET position = last WHERE tenant_id = erasure.tenant_id;
        RETURN looked;
    END IF;
    -- A request that was under way had begun under the old policy; no request takes longer than this, and no job waits longer than a week.
    UPDATE retention_erasures SET
        pass = 2,
        position = uuid_lower_bound(erasure.asked_at - interval '9 days'),
        due_at = erasure.asked_at + interval '15 minutes',
        finished_at = CASE WHEN erasure.pass = 2 THEN clock_timestamp() END
        WHERE tenant_id = erasure.tenant_id;
    RETURN 1;
END
$$;

-- Files of one tenant, of which there are so many that a batch can have its outputs. Two uploads at once wait for each other, or both would
-- find the last place. Answers whether there was one.
CREATE FUNCTION begin_upload(p_file uuid, p_tenant uuid, p_filename text, p_limit integer) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.files ' || p_tenant, 0));
    IF (SELECT count(*) FROM files f WHERE f.tenant_id = p_tenant) >= p_limit THEN
        RETURN false;
    END IF;
    INSERT INTO files (file_id, tenant_id, purpose, filename, expires_at)
        VALUES (p_file, p_tenant, 'batch', p_filename, clock_timestamp() + interval '30 days');
    RETURN true;
END
$$;

-- As before. Pieces of one tenant's uploads are added one after the other, or each would be measured without the others.
CREATE OR REPLACE FUNCTION append_upload(p_file uuid, p_tenant uuid, p_position integer, p_content bytea, p_limit bigint) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.files ' || p_tenant, 0));
    IF (SELECT coalesce(sum(f.bytes), 0) FROM files f WHERE f.tenant_id = p_tenant) + length(p_content) > p_limit THEN
        RETURN 'full';
    END IF;
    UPDATE files f SET bytes = f.bytes + length(p_content) WHERE f.file_id = p_file AND f.tenant_id = p_tenant AND NOT f.is_complete;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    INSERT INTO file_chunks (file_id, position, tenant_id, content) VALUES (p_file, p_position, p_tenant, p_content);
    RETURN 'kept';
END
$$;

REVOKE ALL ON FUNCTION dead_job_ttl, time_dead_job, forget_dead_job, time_file, begin_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_dead_job TO weir_writer;
GRANT EXECUTE ON FUNCTION begin_upload TO weir_customer;

"""#),
        (name: "0029_ledger_proof", sql: #"""
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

"""#),
        (name: "0030_tier_terms", sql: #"""
-- What a tier's price can be made of beyond a price for each unit: bands, packages, included amounts, a minimum, models that count more than
-- others, a trial; tiers of one tenant alone; and the instant from which a version is sold.

-- A tier of one tenant holds prices that were agreed with it; nobody else can subscribe to it or see it.
ALTER TABLE tiers ADD COLUMN tenant_id uuid REFERENCES tenants;

ALTER TABLE tier_versions
    ADD COLUMN minimum_commitment_micros bigint NOT NULL DEFAULT 0 CHECK (minimum_commitment_micros >= 0),
    ADD COLUMN included_requests bigint NOT NULL DEFAULT 0 CHECK (included_requests BETWEEN 0 AND 1000000000000000),
    ADD COLUMN included_tokens bigint NOT NULL DEFAULT 0 CHECK (included_tokens BETWEEN 0 AND 1000000000000000),
    ADD COLUMN trial_days integer NOT NULL DEFAULT 0 CHECK (trial_days BETWEEN 0 AND 366),
    -- From when a published version is given to those who subscribe; those who have an earlier one keep it until they are moved.
    ADD COLUMN effective_at timestamptz;

-- flat: unit_price for each unit. graduated: each unit at the price of the band that it falls in. volume: all units at the price of the band
-- that the whole quantity falls in. package: unit_price for each begun package of package_size units.
ALTER TABLE tier_prices
    ADD COLUMN price_model text NOT NULL DEFAULT 'flat' CHECK (price_model IN ('flat', 'graduated', 'volume', 'package')),
    ADD COLUMN package_size bigint CHECK (package_size BETWEEN 1 AND 1000000000000000),
    ADD CONSTRAINT tier_prices_package CHECK ((price_model = 'package') = (package_size IS NOT NULL)),
    -- The price of a banded meter is in its bands.
    ADD CONSTRAINT tier_prices_bands CHECK (price_model IN ('flat', 'package') OR unit_price = 0);

-- Bands of a price, numbered from 1, each beyond the one before; the last has no end.
CREATE TABLE tier_price_bands (
    tier_version_id  uuid NOT NULL,
    meter            text NOT NULL,
    model            text NOT NULL,
    band             smallint NOT NULL CHECK (band BETWEEN 1 AND 100),
    up_to            bigint CHECK (up_to BETWEEN 1 AND 1000000000000000),
    unit_price       numeric(19, 12) NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (tier_version_id, meter, model, band),
    FOREIGN KEY (tier_version_id, meter, model) REFERENCES tier_prices ON DELETE CASCADE
);

-- A unit of this model counts as so many units, against included amounts, bands and prices alike. A model without a row counts once.
CREATE TABLE tier_multipliers (
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    meter            text NOT NULL CHECK (meter IN ('input_token', 'cached_input_token', 'output_token')),
    model            text NOT NULL CHECK (model <> '*'),
    multiplier       numeric(9, 6) NOT NULL CHECK (multiplier > 0 AND multiplier <= 1000),
    PRIMARY KEY (tier_version_id, meter, model)
);

CREATE TRIGGER tier_price_bands_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_price_bands
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_multipliers_immutable BEFORE INSERT OR UPDATE OR DELETE ON tier_multipliers
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_price_bands_stay BEFORE TRUNCATE ON tier_price_bands
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();
CREATE TRIGGER tier_multipliers_stay BEFORE TRUNCATE ON tier_multipliers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_published_tier();

-- A tier of another tenant does not exist for a customer, nor do its versions.
ALTER TABLE tiers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tiers FOR SELECT TO weir_reader USING (tenant_id IS NULL OR tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON tier_versions FOR SELECT TO weir_reader USING (EXISTS (SELECT FROM tiers t WHERE t.code = tier_code));
CREATE POLICY all_rows ON tiers FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_versions FOR SELECT TO weir_directory, weir_reports, weir_jobs, weir_writer USING (true);
CREATE POLICY administration ON tiers TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_versions TO weir_admin USING (true) WITH CHECK (true);

-- Each version with all of its parts. Amounts that are not there are -1. Whoever reads it sees what the tables let that role see.
CREATE VIEW tier_offers WITH (security_invoker = true) AS
SELECT t.code, t.name, t.tenant_id, t.created_at AS tier_created_at, v.tier_version_id, v.version, v.state, v.currency,
    v.base_fee_micros, v.minimum_commitment_micros, v.included_requests, v.included_tokens, v.trial_days, v.effective_at,
    v.cache_hit_token_percent, v.stream_leave, v.result_ttl_seconds, v.created_at, v.published_at,
    p.meters, p.models, p.price_models, p.unit_prices, p.package_sizes,
    b.meters AS band_meters, b.models AS band_models, b.up_to AS band_ends, b.unit_prices AS band_prices,
    m.meters AS multiplier_meters, m.models AS multiplier_models, m.multipliers,
    q.units AS quota_units, q.frequencies, q.amounts AS quota_amounts, q.modes, q.alignments, q.thresholds,
    l.scopes, l.units AS limit_units, l.amounts AS limit_amounts, l.bursts
FROM tier_versions v
JOIN tiers t ON t.code = v.tier_code
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(price_model ORDER BY meter, model), '{}') AS price_models,
        coalesce(array_agg(unit_price::text ORDER BY meter, model), '{}') AS unit_prices,
        coalesce(array_agg(coalesce(package_size, -1) ORDER BY meter, model), '{}') AS package_sizes
    FROM tier_prices WHERE tier_version_id = v.tier_version_id
) p
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model, band), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model, band), '{}') AS models,
        coalesce(array_agg(coalesce(up_to, -1) ORDER BY meter, model, band), '{}') AS up_to,
        coalesce(array_agg(unit_price::text ORDER BY meter, model, band), '{}') AS unit_prices
    FROM tier_price_bands WHERE tier_version_id = v.tier_version_id
) b
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(multiplier::text ORDER BY meter, model), '{}') AS multipliers
    FROM tier_multipliers WHERE tier_version_id = v.tier_version_id
) m
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(unit ORDER BY unit, frequency), '{}') AS units,
        coalesce(array_agg(frequency ORDER BY unit, frequency), '{}') AS frequencies,
        coalesce(array_agg(amount ORDER BY unit, frequency), '{}') AS amounts,
        coalesce(array_agg(mode ORDER BY unit, frequency), '{}') AS modes,
        coalesce(array_agg(alignment ORDER BY unit, frequency), '{}') AS alignments,
        coalesce(array_agg(array_to_string(thresholds_percent, ',') ORDER BY unit, frequency), '{}') AS thresholds
    FROM tier_quotas WHERE tier_version_id = v.tier_version_id
) q
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
        coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
        coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
        coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
    FROM tier_rate_limits WHERE tier_version_id = v.tier_version_id
) l;

-- The version that who subscribes to a tier now is given.
CREATE FUNCTION tier_version_in_force(p_code text) RETURNS uuid
    LANGUAGE sql STABLE
    AS $$
    SELECT tier_version_id FROM tier_versions
    WHERE tier_code = p_code AND state = 'published' AND coalesce(effective_at, published_at) <= clock_timestamp()
    ORDER BY version DESC LIMIT 1
    $$;

GRANT SELECT ON tier_offers TO weir_directory, weir_reports, weir_reader, weir_admin;
GRANT DELETE ON tier_versions TO weir_admin;
GRANT SELECT ON tier_price_bands, tier_multipliers TO weir_directory, weir_reports, weir_jobs, weir_reader, weir_admin;
GRANT INSERT, UPDATE, DELETE ON tier_price_bands, tier_multipliers TO weir_admin;

-- Replays of a draft over past usage: what publishing a draft that moves a price far asks for.

-- What a version says, in one text: a draft that changes has another one.
CREATE FUNCTION tier_version_fingerprint(p_id uuid) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT encode(sha256(convert_to((to_jsonb(o) - ARRAY['state', 'published_at', 'created_at', 'tier_created_at', 'name'])::text, 'UTF8')), 'hex')
    FROM tier_offers o WHERE o.tier_version_id = p_id
    $$;

CREATE TABLE tier_replays (
    replay_id        uuid PRIMARY KEY,
    tier_version_id  uuid NOT NULL,
    -- Of the version as it was replayed.
    fingerprint      text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    -- Of the fingerprint and the whole result.
    digest           text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    result           jsonb NOT NULL,
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tier_replays_of_version ON tier_replays (tier_version_id, digest);
CREATE TRIGGER tier_replays_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tier_replays
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE tier_replays ENABLE ROW LEVEL SECURITY;
CREATE POLICY administration ON tier_replays TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON tier_replays TO weir_admin;

"""#),
        (name: "0031_invoices", sql: #"""
-- Who is on what for which span, what was granted, and what was invoiced.

-- The trial's end lies on an edge of usage, so that what it made free can be told from what it did not.
ALTER TABLE subscriptions
    ADD COLUMN trial_ends_at timestamptz,
    ADD CONSTRAINT subscriptions_trial CHECK (trial_ends_at IS NULL OR trial_ends_at = usage_bucket(trial_ends_at));

-- A prepaid tenant is served while its balance is above zero: what is left of its credits less what its open periods have accrued. A job
-- compares, and says here what came out; admission reads it.
ALTER TABLE tenants
    ADD COLUMN prepaid boolean NOT NULL DEFAULT false,
    ADD COLUMN is_exhausted boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT tenants_exhausted CHECK (prepaid OR NOT is_exhausted);

-- A change of tier that is due later. A tenant has one at most; another takes its place.
CREATE TABLE subscription_changes (
    change_id        uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants,
    tier_version_id  uuid NOT NULL REFERENCES tier_versions,
    due_at           timestamptz NOT NULL,
    state            text NOT NULL DEFAULT 'scheduled' CHECK (state IN ('scheduled', 'applied', 'cancelled')),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at         timestamptz,
    CHECK ((state = 'scheduled') = (ended_at IS NULL))
);
CREATE UNIQUE INDEX one_scheduled_change ON subscription_changes (tenant_id) WHERE state = 'scheduled';
CREATE INDEX subscription_changes_due ON subscription_changes (due_at) WHERE state = 'scheduled';

-- Money of the tenant's that invoices draw on before they ask for more. What is left of one is its amount less its applications.
-- Of two that could pay, the smaller priority goes first, then the one that ends first, then the older one.
CREATE TABLE credit_grants (
    grant_id       uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    kind           text NOT NULL CHECK (kind IN ('promotional', 'prepaid', 'refund')),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_micros  bigint NOT NULL CHECK (amount_micros > 0),
    priority       smallint NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 1000),
    -- Both on edges of usage: a credit pays for what was used while it was valid.
    effective_at   timestamptz NOT NULL CHECK (effective_at = usage_bucket(effective_at)),
    expires_at     timestamptz CHECK (expires_at = usage_bucket(expires_at) AND expires_at > effective_at),
    reason         text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What was not used by then is gone.
    revoked_at     timestamptz,
    -- Which invoice gave the money back: one whose period came out below zero, or a credit note.
    source_invoice_id  uuid
);
CREATE INDEX credit_grants_of_tenant ON credit_grants (tenant_id, grant_id);

-- Who issues invoices, and the last number that was given: numbers have no gap, so they are given when an invoice is finalised.
CREATE TABLE invoice_issuers (
    issuer         text PRIMARY KEY CHECK (issuer ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    address        text NOT NULL DEFAULT '' CHECK (length(address) <= 1000),
    tax_id         text NOT NULL DEFAULT '' CHECK (length(tax_id) <= 100),
    number_prefix  text NOT NULL DEFAULT 'INV-' CHECK (number_prefix ~ '^[A-Z0-9-]{0,16}$'),
    last_number    bigint NOT NULL DEFAULT 0 CHECK (last_number >= 0)
);
INSERT INTO invoice_issuers (issuer, name) VALUES ('default', 'Weir');

-- An invoice of one tenant, period and currency, or a credit note that takes back a part of one. total = subtotal - credits; the subtotal is
-- the sum of the lines. Amounts of a credit note are positive.
CREATE TABLE invoices (
    invoice_id           uuid PRIMARY KEY,
    issuer               text NOT NULL REFERENCES invoice_issuers,
    number               bigint CHECK (number >= 1),
    kind                 text NOT NULL CHECK (kind IN ('invoice', 'credit_note')),
    corrects_invoice_id  uuid REFERENCES invoices,
    tenant_id            uuid NOT NULL REFERENCES tenants,
    -- As PeriodCalendar names it, for instance 2026-03@Europe/Berlin.
    period_id            text NOT NULL CHECK (length(period_id) BETWEEN 1 AND 100),
    period_start         timestamptz NOT NULL,
    period_end           timestamptz NOT NULL,
    time_zone            text NOT NULL,
    currency             text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    state                text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'finalised', 'paid', 'void')),
    subtotal_micros      bigint NOT NULL CHECK (subtotal_micros >= 0),
    credits_micros       bigint NOT NULL DEFAULT 0 CHECK (credits_micros BETWEEN 0 AND subtotal_micros),
    total_micros         bigint NOT NULL,
    -- As it was when the invoice was drafted: a tenant that changes its name does not change its old invoices.
    customer_name        text NOT NULL CHECK (length(customer_name) BETWEEN 1 AND 200),
    -- The issuer's, of the same moment; the prefix stands before the number.
    issuer_name          text NOT NULL,
    issuer_address       text NOT NULL,
    issuer_tax_id        text NOT NULL,
    number_prefix        text NOT NULL,
    note                 text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    drafted_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    finalised_at         timestamptz,
    due_at               timestamptz,
    paid_at              timestamptz,
    voided_at            timestamptz,
    UNIQUE (issuer, number),
    CHECK (total_micros = subtotal_micros - credits_micros),
    CHECK (period_end > period_start),
    CHECK ((kind = 'credit_note') = (corrects_invoice_id IS NOT NULL)),
    CHECK (CASE state
        WHEN 'draft' THEN num_nonnulls(number, finalised_at, paid_at, voided_at) = 0
        WHEN 'finalised' THEN num_nulls(number, finalised_at) = 0 AND num_nonnulls(paid_at, voided_at) = 0
        WHEN 'paid' THEN num_nulls(number, finalised_at, paid_at) = 0 AND voided_at IS NULL
        ELSE num_nulls(number, finalised_at, voided_at) = 0 AND paid_at IS NULL END)
);
CREATE UNIQUE INDEX one_invoice_of_a_period ON invoices (tenant_id, period_start, currency) WHERE kind = 'invoice' AND state <> 'void';
CREATE INDEX invoices_of_tenant ON invoices (tenant_id, invoice_id);
ALTER TABLE credit_grants ADD FOREIGN KEY (source_invoice_id) REFERENCES invoices;
CREATE INDEX credit_notes_of_invoice ON invoices (corrects_invoice_id) WHERE corrects_invoice_id IS NOT NULL;

-- base_fee, minimum_commitment: the tier's, for the part of the period that it was in force. usage: a meter's quantity at its price. included:
-- quantity that the tier includes, free. trial: quantity of a trial, free. late_usage: what was used in an earlier period and became known
-- after its invoice was final. carried_credit: what a period below zero gives back as a credit, so that the subtotal is zero. credit_note: what
-- a credit note takes back.
CREATE TABLE invoice_lines (
    invoice_id           uuid NOT NULL REFERENCES invoices,
    line_number          integer NOT NULL CHECK (line_number >= 1),
    kind                 text NOT NULL
        CHECK (kind IN ('base_fee', 'usage', 'included', 'trial', 'minimum_commitment', 'late_usage', 'carried_credit', 'credit_note')),
    tier_version_id      uuid REFERENCES tier_versions,
    -- '*' where models are priced together.
    model                text,
    meter                text CHECK (meter IN ('request', 'input_token', 'cached_input_token', 'output_token')),
    band                 smallint,
    description          text NOT NULL CHECK (length(description) BETWEEN 1 AND 500),
    span_start           timestamptz NOT NULL,
    span_end             timestamptz NOT NULL CHECK (span_end > span_start),
    -- Units as they are priced, times their multiplier, in millionths of a unit.
    quantity_millionths  numeric(38, 0),
    unit_price           numeric(19, 12),
    amount_micros        bigint NOT NULL,
    PRIMARY KEY (invoice_id, line_number)
);

-- The ledger's quantities that an invoice charges, as they are: the sum over all invoices of a period that are not void is the ledger's.
-- Late usage stands here with the period in which it was used.
CREATE TABLE invoice_usage (
    invoice_id           uuid NOT NULL REFERENCES invoices,
    usage_period_start   timestamptz NOT NULL,
    tier_version_id      uuid NOT NULL REFERENCES tier_versions,
    is_trial             boolean NOT NULL,
    model                text NOT NULL,
    requests             bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    -- The entries that are charged here are those of the period that this snapshot sees and the one before does not.
    seen                 pg_snapshot NOT NULL,
    seen_before          pg_snapshot,
    PRIMARY KEY (invoice_id, usage_period_start, tier_version_id, is_trial, model)
);

CREATE TABLE credit_applications (
    invoice_id     uuid NOT NULL REFERENCES invoices,
    grant_id       uuid NOT NULL REFERENCES credit_grants,
    amount_micros  bigint NOT NULL CHECK (amount_micros > 0),
    PRIMARY KEY (invoice_id, grant_id)
);
CREATE INDEX credit_applications_of_grant ON credit_applications (grant_id);

-- Why a correction stands in the ledger; its key is the entry's.
CREATE TABLE adjustments (
    entry_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants,
    request_id  uuid NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX adjustments_of_request ON adjustments (request_id);
CREATE TRIGGER adjustments_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Of a grant nothing changes but its revocation.
CREATE FUNCTION refuse_change_of_grant() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR OLD.revoked_at IS NOT NULL OR to_jsonb(NEW) - 'revoked_at' <> to_jsonb(OLD) - 'revoked_at' THEN
        RAISE EXCEPTION 'a credit grant cannot change' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER credit_grants_immutable BEFORE UPDATE OR DELETE ON credit_grants
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_grant();

-- What was issued stays as it is: an invoice that has a number changes its state and nothing else, and its parts do not change.
CREATE FUNCTION refuse_change_of_issued_invoice() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    subjects uuid[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold what was issued', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END IF;
    IF TG_TABLE_NAME = 'invoices' THEN
        IF OLD.state <> 'draft' AND NOT (TG_OP = 'UPDATE' AND OLD.state = 'finalised' AND NEW.state IN ('paid', 'void')
            AND to_jsonb(NEW) - ARRAY['state', 'paid_at', 'voided_at'] = to_jsonb(OLD) - ARRAY['state', 'paid_at', 'voided_at']) THEN
            RAISE EXCEPTION 'invoice % is issued and cannot change', OLD.invoice_id USING ERRCODE = 'check_violation';
        END IF;
    ELSE
        subjects := CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.invoice_id] WHEN 'DELETE' THEN ARRAY[OLD.invoice_id]
            ELSE ARRAY[OLD.invoice_id, NEW.invoice_id] END;
        -- Whoever finalises waits for this change, and this change for whoever finalises.
        PERFORM FROM invoices i WHERE i.invoice_id = ANY (subjects) ORDER BY i.invoice_id FOR SHARE;
        IF EXISTS (SELECT FROM invoices i WHERE i.invoice_id = ANY (subjects) AND i.state <> 'draft') THEN
            RAISE EXCEPTION 'a part of an issued invoice cannot change' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER invoices_immutable BEFORE UPDATE OR DELETE ON invoices
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_lines_immutable BEFORE INSERT OR UPDATE OR DELETE ON invoice_lines
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_usage_immutable BEFORE INSERT OR UPDATE OR DELETE ON invoice_usage
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER credit_applications_immutable BEFORE INSERT OR UPDATE OR DELETE ON credit_applications
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoices_stay BEFORE TRUNCATE ON invoices
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_lines_stay BEFORE TRUNCATE ON invoice_lines
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER invoice_usage_stay BEFORE TRUNCATE ON invoice_usage
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();
CREATE TRIGGER credit_applications_stay BEFORE TRUNCATE ON credit_applications
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_issued_invoice();

ALTER TABLE subscription_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE credit_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoices ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_lines ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE credit_applications ENABLE ROW LEVEL SECURITY;
ALTER TABLE adjustments ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON subscription_changes FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON credit_grants FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON adjustments FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
-- A customer sees what was issued; the parts follow the invoice.
CREATE POLICY own_rows ON invoices FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()) AND state <> 'draft');
CREATE POLICY own_rows ON invoice_lines FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM invoices i WHERE i.invoice_id = invoice_lines.invoice_id));
CREATE POLICY own_rows ON invoice_usage FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM invoices i WHERE i.invoice_id = invoice_usage.invoice_id));
CREATE POLICY own_rows ON credit_applications FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM invoices i WHERE i.invoice_id = credit_applications.invoice_id));
CREATE POLICY all_rows ON subscription_changes FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON credit_grants FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON invoices FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON invoice_lines FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON invoice_usage FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON credit_applications FOR SELECT TO weir_reports USING (true);
CREATE POLICY all_rows ON adjustments FOR SELECT TO weir_reports USING (true);
CREATE POLICY administration ON subscription_changes TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON credit_grants TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON invoices TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON invoice_lines TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON invoice_usage TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON credit_applications TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON adjustments TO weir_admin USING (true) WITH CHECK (true);
-- Corrections are entries that an administrator posts.
CREATE POLICY corrections ON ledger FOR INSERT TO weir_admin WITH CHECK (kind = 'correction');

GRANT SELECT ON subscription_changes, credit_grants, invoices, invoice_lines, invoice_usage, credit_applications, adjustments
    TO weir_reader, weir_reports, weir_admin;
GRANT SELECT ON invoice_issuers TO weir_reports, weir_admin;
GRANT INSERT, UPDATE ON subscription_changes, credit_grants, invoice_issuers, invoices TO weir_admin;
GRANT INSERT, UPDATE, DELETE ON invoice_lines, invoice_usage, credit_applications TO weir_admin;
GRANT DELETE ON invoices TO weir_admin;
GRANT INSERT ON ledger, adjustments TO weir_admin;

"""#),
        (name: "0032_exports", sql: #"""
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

"""#),
        (name: "0033_reports", sql: #"""
-- Reports: usage by the callers' own tags, how long requests took, and why they failed. All of it follows from ledger and request rows, under
-- the same watermark as usage, and can be rebuilt.

-- What the caller said a request was for, as {team=search,env=prod}. NULL where it said nothing, which costs nothing.
ALTER TABLE ledger ADD COLUMN tags text[] CHECK (cardinality(tags) BETWEEN 1 AND 16);
CREATE INDEX ledger_tagged_by_transaction ON ledger (tx) WHERE tags IS NOT NULL;

-- The tags that have usage of their own: the first hundred of a tenant in a calendar month (UTC). What comes after them is counted as 'other',
-- which no tag can be called, so that a caller who puts an id into a tag does not make the roll-up as large as the ledger. Like the depth of
-- a queue it is not rebuilt: which came first cannot be told from the ledger.
CREATE TABLE usage_tags (
    tenant_id  uuid NOT NULL,
    month      date NOT NULL CHECK (month = date_trunc('month', month)),
    tag        text NOT NULL CHECK (tag ~ '^[^=]{1,32}=.{1,64}$'),
    PRIMARY KEY (tenant_id, month, tag)
);

-- A request with several tags counts in each of them, and once in 'other'.
CREATE TABLE tag_usage (
    tenant_id            uuid NOT NULL,
    bucket_start         timestamptz NOT NULL,
    tag                  text NOT NULL,
    model                text NOT NULL,
    tier_version_id      uuid NOT NULL,
    requests_count       bigint NOT NULL,
    input_tokens         bigint NOT NULL,
    cached_input_tokens  bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket_start, tag, model, tier_version_id)
);

-- How many requests of a quarter of an hour were answered in a time of each class (see latency_class).
CREATE TABLE model_latencies (
    model_name      text NOT NULL,
    time_window     timestamptz NOT NULL,
    latency_class   smallint NOT NULL CHECK (latency_class BETWEEN 0 AND 303),
    requests_count  bigint NOT NULL,
    PRIMARY KEY (model_name, time_window, latency_class)
);

-- The same by days of UTC, so that a month is read from days and only its edges from quarters of an hour.
CREATE TABLE model_latency_days (
    model_name      text NOT NULL,
    day             date NOT NULL,
    latency_class   smallint NOT NULL CHECK (latency_class BETWEEN 0 AND 303),
    requests_count  bigint NOT NULL,
    PRIMARY KEY (day, model_name, latency_class)
);

CREATE TABLE model_errors (
    model_name      text NOT NULL,
    time_window     timestamptz NOT NULL,
    error_code      text NOT NULL,
    http_status     smallint NOT NULL,
    requests_count  bigint NOT NULL,
    PRIMARY KEY (model_name, time_window, error_code, http_status)
);

-- Reports over all tenants read a range of time.
CREATE INDEX usage_by_bucket ON usage (bucket_start);
CREATE INDEX model_latencies_by_window ON model_latencies (time_window);
CREATE INDEX model_errors_by_window ON model_errors (time_window);
CREATE INDEX model_usage_by_window ON model_usage_metrics (time_window);

-- Classes of times in microseconds: below 16 each its own, from there on eight to each doubling, so that a class is at most an eighth as wide
-- as its lower end. What takes longer than 2^40 us, twelve days, is in the last one. Whole numbers only.
CREATE FUNCTION latency_class(us bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT CASE WHEN v < 16 THEN v ELSE (e - 2) * 8 + ((v >> (e - 3)) & 7) END::smallint
    FROM (SELECT v, length(ltrim(v::bit(64)::text, '0')) - 1 AS e FROM (SELECT least(greatest(us, 0), 1099511627775) AS v) bounded) sized
    $$;

CREATE FUNCTION usage_day(instant timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (instant AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION usage_month(instant timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_trunc('month', instant AT TIME ZONE 'UTC')::date $$;

-- As before, and why a request failed.
CREATE OR REPLACE VIEW request_outcomes AS
    SELECT request_id, model, coalesce(started_at, created_at) AS created_at, status, is_cache_hit(cached) AS cache_hit,
        coalesce(processing_us, 0) AS busy_us, tx, error_code, http_status
    FROM requests;

-- One row for each tag of each entry.
CREATE VIEW tagged_entries AS
    SELECT l.entry_id, l.tenant_id, l.occurred_at, l.model, l.tier_version_id, l.requests, l.input_tokens, l.cached_input_tokens,
        l.output_tokens, l.tx, t.tag
    FROM ledger l CROSS JOIN LATERAL unnest(l.tags) AS t (tag)
    WHERE l.tags IS NOT NULL;
REVOKE ALL ON tagged_entries FROM PUBLIC;

-- Lets the tags of these entries in while there is room, and adds the entries to their usage. The two functions below differ in which entries
-- these are; both run under the watermark's lock.
CREATE FUNCTION roll_up_tags(p_from_tx xid8, p_to_tx xid8) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger WHERE tags IS NOT NULL AND tx >= p_from_tx AND tx < p_to_tx) THEN
        RETURN;
    END IF;
    INSERT INTO usage_tags (tenant_id, month, tag)
    SELECT f.tenant_id, f.month, f.tag FROM (
        SELECT d.tenant_id, d.month, d.tag, row_number() OVER (PARTITION BY d.tenant_id, d.month ORDER BY d.tag) AS place
        FROM (
            SELECT DISTINCT tenant_id, usage_month(occurred_at) AS month, tag FROM tagged_entries WHERE tx >= p_from_tx AND tx < p_to_tx
        ) d
        WHERE NOT EXISTS (SELECT FROM usage_tags k WHERE k.tenant_id = d.tenant_id AND k.month = d.month AND k.tag = d.tag)
    ) f
    WHERE f.place <= 100 - (SELECT count(*) FROM usage_tags k WHERE k.tenant_id = f.tenant_id AND k.month = f.month);
    INSERT INTO tag_usage AS u (tenant_id, bucket_start, tag, model, tier_version_id, requests_count, input_tokens,
        cached_input_tokens, output_tokens)
    SELECT tenant_id, bucket_start, tag, model, tier_version_id, sum(requests), sum(input_tokens), sum(cached_input_tokens),
        sum(output_tokens)
    FROM (
        SELECT DISTINCT e.entry_id, e.tenant_id, usage_bucket(e.occurred_at) AS bucket_start, coalesce(k.tag, 'other') AS tag, e.model,
            e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens
        FROM tagged_entries e
        LEFT JOIN usage_tags k ON k.tenant_id = e.tenant_id AND k.month = usage_month(e.occurred_at) AND k.tag = e.tag
        WHERE e.tx >= p_from_tx AND e.tx < p_to_tx
    ) parts
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant_id, bucket_start, tag, model, tier_version_id) DO UPDATE SET
        requests_count = u.requests_count + EXCLUDED.requests_count,
        input_tokens = u.input_tokens + EXCLUDED.input_tokens,
        cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
        output_tokens = u.output_tokens + EXCLUDED.output_tokens;
END
$$;

-- Moves the watermark up to the oldest transaction that still runs and adds what was written in between to the roll-ups, in one
-- transaction. Answers the number of ledger entries added.
CREATE OR REPLACE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    WITH entries AS MATERIALIZED (
        SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, kind, request_id, requests,
            input_tokens, cached_input_tokens, output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
    ), fresh AS MATERIALIZED (
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, count(*) AS entries, sum(requests)::bigint AS requests,
            sum(input_tokens)::bigint AS input_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
            sum(output_tokens)::bigint AS output_tokens
        FROM entries GROUP BY 1, 2, 3, 4, 5
    ), by_tenant AS (
        INSERT INTO usage AS u (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens,
            cached_input_tokens, output_tokens)
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        FROM fresh ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            requests_count = u.requests_count + EXCLUDED.requests_count,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens
    ), outcomes AS MATERIALIZED (
        SELECT o.model, usage_bucket(o.created_at) AS bucket_start, o.status = 'failed' AS is_failed, o.cache_hit, o.busy_us, o.error_code,
            o.http_status
        FROM entries e JOIN request_outcomes o ON o.request_id = e.request_id WHERE e.kind = 'usage'
        UNION ALL
        SELECT model, usage_bucket(created_at), true, cache_hit, busy_us, error_code, http_status
        FROM request_outcomes WHERE status = 'failed' AND tx >= from_tx AND tx < to_tx
    ), parts AS (
        SELECT model, bucket_start, requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits, 0 AS busy_us
        FROM fresh
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
        SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us)
        FROM parts GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count,
            token_count = m.token_count + EXCLUDED.token_count,
            error_count = m.error_count + EXCLUDED.error_count,
            cache_hit_count = m.cache_hit_count + EXCLUDED.cache_hit_count,
            busy_us = m.busy_us + EXCLUDED.busy_us
    ), by_latency AS (
        INSERT INTO model_latencies AS m (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (model_name, time_window, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_latency_day AS (
        INSERT INTO model_latency_days AS m (model_name, day, latency_class, requests_count)
        SELECT model, usage_day(bucket_start), latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (day, model_name, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_error AS (
        INSERT INTO model_errors AS m (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (model_name, time_window, error_code, http_status)
            DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    PERFORM roll_up_tags(from_tx, to_tx);
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;

-- As before, with the new roll-ups. The tags that were let in stay.
CREATE OR REPLACE FUNCTION rebuild_usage(p_from timestamptz, p_to timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    reached xid8;
    earliest uuid;
    rebuilt bigint;
BEGIN
    IF isfinite(p_from) AND usage_bucket(p_from) <> p_from OR isfinite(p_to) AND usage_bucket(p_to) <> p_to THEN
        RAISE EXCEPTION 'the ends are not on a quarter of an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    earliest := uuid_lower_bound(greatest(p_from, timestamptz '1970-01-17 00:00:00+00') - interval '15 days');
    DELETE FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
        sum(cached_input_tokens), sum(output_tokens)
    FROM ledger WHERE entry_id >= earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < reached
    GROUP BY 1, 2, 3, 4, 5;

    DELETE FROM tag_usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO tag_usage (tenant_id, bucket_start, tag, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, bucket_start, tag, model, tier_version_id, sum(requests), sum(input_tokens), sum(cached_input_tokens),
        sum(output_tokens)
    FROM (
        SELECT DISTINCT e.entry_id, e.tenant_id, usage_bucket(e.occurred_at) AS bucket_start, coalesce(k.tag, 'other') AS tag, e.model,
            e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens
        FROM tagged_entries e
        LEFT JOIN usage_tags k ON k.tenant_id = e.tenant_id AND k.month = usage_month(e.occurred_at) AND k.tag = e.tag
        WHERE e.entry_id >= earliest AND e.occurred_at >= p_from AND e.occurred_at < p_to AND e.tx < reached
    ) parts
    GROUP BY 1, 2, 3, 4, 5;

    DELETE FROM model_latencies WHERE time_window >= p_from AND time_window < p_to;
    DELETE FROM model_errors WHERE time_window >= p_from AND time_window < p_to;
    UPDATE model_usage_metrics SET request_count = 0, token_count = 0, error_count = 0, cache_hit_count = 0, busy_us = 0
    WHERE time_window >= p_from AND time_window < p_to;
    WITH outcomes AS MATERIALIZED (
        SELECT o.model, usage_bucket(o.created_at) AS bucket_start, o.status = 'failed' AS is_failed, o.cache_hit, o.busy_us, o.error_code,
            o.http_status
        FROM request_outcomes o
        WHERE o.request_id >= earliest AND o.created_at >= p_from AND o.created_at < p_to
            AND (o.status = 'completed' AND EXISTS (SELECT FROM ledger l WHERE l.entry_id = o.request_id AND l.tx < reached)
                OR o.status = 'failed' AND (o.tx IS NULL OR o.tx < reached))
    ), by_latency AS (
        INSERT INTO model_latencies (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed GROUP BY 1, 2, 3
    ), by_error AS (
        INSERT INTO model_errors (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4
    )
    INSERT INTO model_usage_metrics (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
    SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us) FROM (
        SELECT model, bucket_start, requests_count AS requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits,
            0 AS busy_us
        FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ) AS parts
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (model_name, time_window) DO UPDATE SET
        request_count = EXCLUDED.request_count, token_count = EXCLUDED.token_count, error_count = EXCLUDED.error_count,
        cache_hit_count = EXCLUDED.cache_hit_count, busy_us = EXCLUDED.busy_us;
    GET DIAGNOSTICS rebuilt = ROW_COUNT;

    -- Whole days, also where the range begins or ends within one.
    DELETE FROM model_latency_days WHERE day >= usage_day(p_from) AND day <= usage_day(p_to);
    INSERT INTO model_latency_days (model_name, day, latency_class, requests_count)
    SELECT model_name, usage_day(time_window), latency_class, sum(requests_count) FROM model_latencies
    WHERE time_window >= date_trunc('day', p_from, 'UTC') AND time_window < date_trunc('day', p_to, 'UTC') + interval '1 day'
    GROUP BY 1, 2, 3;
    RETURN rebuilt;
END
$$;

ALTER TABLE usage_tags ENABLE ROW LEVEL SECURITY;
ALTER TABLE tag_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON usage_tags FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON tag_usage FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY roll_up ON usage_tags TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY roll_up ON tag_usage TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON usage_tags FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON tag_usage FOR SELECT TO weir_admin, weir_reports USING (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON tag_usage, model_latencies, model_latency_days, model_errors TO weir_jobs;
GRANT SELECT, INSERT ON usage_tags TO weir_jobs;
GRANT SELECT ON tagged_entries TO weir_jobs;
GRANT SELECT ON usage_tags, tag_usage TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON model_latencies, model_latency_days, model_errors TO weir_admin, weir_reports;
-- By whom, of a key.
GRANT SELECT (key_id, tenant_id, user_id) ON api_keys TO weir_reports;
CREATE POLICY all_rows_of_reports ON api_keys FOR SELECT TO weir_reports USING (true);

-- The roll-ups that are new, for what was there before.
SELECT rebuild_usage('-infinity', 'infinity');

"""#),
        (name: "0034_bounded_roll_up", sql: #"""
-- A roll-up of bounded steps.

-- Where a step ends that begins with this transaction: behind the one that has the 50,000th entry or failure from there. Whole transactions, so it
-- can be a batch more.
CREATE FUNCTION roll_up_end(p_from_tx xid8) RETURNS xid8
    LANGUAGE sql STABLE
    AS $$
    SELECT (min(last.tx)::text::numeric + 1)::text::xid8
    FROM (
        (SELECT tx FROM ledger WHERE tx >= p_from_tx ORDER BY tx OFFSET 49999 LIMIT 1)
        UNION ALL
        (SELECT tx FROM request_outcomes WHERE status = 'failed' AND tx >= p_from_tx ORDER BY tx OFFSET 49999 LIMIT 1)
    ) AS last
$$;

-- Moves the watermark up to the oldest transaction that still runs, or by about 50,000 entries and as many failures where more than that was
-- written since, and adds what was written in between to the roll-ups, in one transaction: a roll-up that was away for an hour catches up in
-- steps that end, instead of beginning anew with ever more. Where another process is at it, nothing is done. Answers the number of ledger
-- entries added.
CREATE OR REPLACE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    to_tx := least(to_tx, roll_up_end(from_tx));
    WITH entries AS MATERIALIZED (
        SELECT tenant_id, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, kind, request_id, requests,
            input_tokens, cached_input_tokens, output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
    ), fresh AS MATERIALIZED (
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, count(*) AS entries, sum(requests)::bigint AS requests,
            sum(input_tokens)::bigint AS input_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
            sum(output_tokens)::bigint AS output_tokens
        FROM entries GROUP BY 1, 2, 3, 4, 5
    ), by_tenant AS (
        INSERT INTO usage AS u (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens,
            cached_input_tokens, output_tokens)
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        FROM fresh ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            requests_count = u.requests_count + EXCLUDED.requests_count,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens
    ), outcomes AS MATERIALIZED (
        SELECT o.model, usage_bucket(o.created_at) AS bucket_start, o.status = 'failed' AS is_failed, o.cache_hit, o.busy_us, o.error_code,
            o.http_status
        FROM entries e JOIN request_outcomes o ON o.request_id = e.request_id WHERE e.kind = 'usage'
        UNION ALL
        SELECT model, usage_bucket(created_at), true, cache_hit, busy_us, error_code, http_status
        FROM request_outcomes WHERE status = 'failed' AND tx >= from_tx AND tx < to_tx
    ), parts AS (
        SELECT model, bucket_start, requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits, 0 AS busy_us
        FROM fresh
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
        SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us)
        FROM parts GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count,
            token_count = m.token_count + EXCLUDED.token_count,
            error_count = m.error_count + EXCLUDED.error_count,
            cache_hit_count = m.cache_hit_count + EXCLUDED.cache_hit_count,
            busy_us = m.busy_us + EXCLUDED.busy_us
    ), by_latency AS (
        INSERT INTO model_latencies AS m (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (model_name, time_window, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_latency_day AS (
        INSERT INTO model_latency_days AS m (model_name, day, latency_class, requests_count)
        SELECT model, usage_day(bucket_start), latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (day, model_name, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_error AS (
        INSERT INTO model_errors AS m (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (model_name, time_window, error_code, http_status)
            DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    PERFORM roll_up_tags(from_tx, to_tx);
    UPDATE rollup_watermark SET position = to_tx;
    RETURN added;
END
$$;

"""#),
        (name: "0035_tiers", sql: #"""
-- Prices that were agreed with one tenant are nobody else's, a stay that was is not moved, and only a whole replay confirms a publication.

-- The parts of a version follow the version, and that follows its tier.
ALTER TABLE tier_prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_price_bands ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_multipliers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_rate_limits ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tier_prices FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_prices.tier_version_id));
CREATE POLICY own_rows ON tier_price_bands FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_price_bands.tier_version_id));
CREATE POLICY own_rows ON tier_multipliers FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_multipliers.tier_version_id));
CREATE POLICY own_rows ON tier_quotas FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_quotas.tier_version_id));
CREATE POLICY own_rows ON tier_rate_limits FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_rate_limits.tier_version_id));
CREATE POLICY all_rows ON tier_prices FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_price_bands FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_multipliers FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_quotas FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_rate_limits FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY administration ON tier_prices TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_price_bands TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_multipliers TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_quotas TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_rate_limits TO weir_admin USING (true) WITH CHECK (true);

-- Bills and their replay follow from stays: one can be ended and be given its trial, each once, and nothing else. A superuser, who could
-- switch this off, may mend one by hand.
CREATE FUNCTION refuse_change_of_stay() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE'
        AND to_jsonb(NEW) - ARRAY['ends_at', 'trial_ends_at'] = to_jsonb(OLD) - ARRAY['ends_at', 'trial_ends_at']
        AND (OLD.ends_at IS NULL OR NEW.ends_at = OLD.ends_at)
        AND (OLD.trial_ends_at IS NOT DISTINCT FROM NEW.trial_ends_at OR OLD.trial_ends_at IS NULL AND OLD.ends_at IS NULL) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a stay on a tier can be ended and be given its trial, and nothing else' USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER subscriptions_immutable BEFORE UPDATE OR DELETE ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_stay();
REVOKE UPDATE ON subscriptions FROM weir_admin;
GRANT UPDATE (ends_at, trial_ends_at) ON subscriptions TO weir_admin;

-- Whether a replay is of all bills of the tier up to the last month that was over. Of those from before it is not known.
ALTER TABLE tier_replays ADD COLUMN is_whole boolean NOT NULL DEFAULT false;

"""#),
        (name: "0036_invoices", sql: #"""
-- What a credit note does with its money, why an invoice was voided, and who may read of drafts.

-- A void invoice with reissue has taken nothing of its period; without it, the run leaves the period alone.
ALTER TABLE invoices
    ADD COLUMN note_form text CHECK (note_form IN ('reduction', 'credit', 'money')),
    ADD COLUMN granted_micros bigint NOT NULL DEFAULT 0 CHECK (granted_micros >= 0),
    ADD COLUMN void_reason text CHECK (length(void_reason) BETWEEN 1 AND 500),
    ADD COLUMN reissue boolean,
    ADD CONSTRAINT invoices_note CHECK (kind = 'credit_note' AND granted_micros <= total_micros OR note_form IS NULL AND granted_micros = 0),
    ADD CONSTRAINT invoices_voiding CHECK (state = 'void' OR num_nonnulls(void_reason, reissue) = 0);

-- Notes that were written before this was kept: who has a grant got a credit; the others lowered what was owed, or gave money back if it was paid.
ALTER TABLE invoices DISABLE TRIGGER invoices_immutable;
UPDATE invoices n SET
    note_form = CASE
        WHEN EXISTS (SELECT FROM credit_grants g WHERE g.source_invoice_id = n.invoice_id) THEN 'credit'
        WHEN (SELECT i.paid_at FROM invoices i WHERE i.invoice_id = n.corrects_invoice_id) <= n.finalised_at THEN 'money'
        ELSE 'reduction' END,
    granted_micros = coalesce((SELECT sum(g.amount_micros)::bigint FROM credit_grants g WHERE g.source_invoice_id = n.invoice_id), 0)
WHERE n.kind = 'credit_note';
ALTER TABLE invoices ENABLE TRIGGER invoices_immutable;

-- As before, but the reason of a voiding is set with it, and one that asked for nothing, which is paid when it is issued, may be voided: no money
-- has moved.
CREATE OR REPLACE FUNCTION refuse_change_of_issued_invoice() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    subjects uuid[];
    changing CONSTANT text[] := ARRAY['state', 'paid_at', 'voided_at', 'void_reason', 'reissue'];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold what was issued', TG_TABLE_NAME USING ERRCODE = 'check_violation';
    END IF;
    IF TG_TABLE_NAME = 'invoices' THEN
        IF OLD.state <> 'draft' AND NOT (TG_OP = 'UPDATE' AND
            (OLD.state = 'finalised' AND NEW.state IN ('paid', 'void') OR OLD.state = 'paid' AND OLD.total_micros = 0 AND NEW.state = 'void')
            AND to_jsonb(NEW) - changing = to_jsonb(OLD) - changing) THEN
            RAISE EXCEPTION 'invoice % is issued and cannot change', OLD.invoice_id USING ERRCODE = 'check_violation';
        END IF;
    ELSE
        subjects := CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW.invoice_id] WHEN 'DELETE' THEN ARRAY[OLD.invoice_id]
            ELSE ARRAY[OLD.invoice_id, NEW.invoice_id] END;
        -- Whoever finalises waits for this change, and this change for whoever finalises.
        PERFORM FROM invoices i WHERE i.invoice_id = ANY (subjects) ORDER BY i.invoice_id FOR SHARE;
        IF EXISTS (SELECT FROM invoices i WHERE i.invoice_id = ANY (subjects) AND i.state <> 'draft') THEN
            RAISE EXCEPTION 'a part of an issued invoice cannot change' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
-- What is drafted is the operator's alone until it is issued.
ALTER POLICY own_rows ON audit_log
    USING (tenant_id = (SELECT current_tenant()) AND action NOT IN ('invoice.draft', 'invoice.remove_draft'));

"""#),
        (name: "0037_prepaid", sql: #"""
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

"""#),
        (name: "0038_proof", sql: #"""
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

"""#),
        (name: "0039_what_is_left_behind", sql: #"""
-- What was left to be lost or overlooked: usage of before a customer's new beginning, and digests of invoices that are older than digests.

-- As before, but the beginning does not move past what is still to be sent: usage of before it would be sent to nobody. The caller is told to wait, by
-- the condition `object_in_use`.
CREATE OR REPLACE FUNCTION connect_stripe_customer(p_tenant uuid, p_customer text, p_since timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    beginning CONSTANT timestamptz := date_trunc('hour', p_since, 'UTC');
    seen xid8;
BEGIN
    -- Nobody looks at new entries meanwhile, or those that come now would be looked at by neither.
    SELECT position INTO seen FROM stripe_watermark FOR UPDATE;
    IF p_customer IS NULL THEN
        UPDATE stripe_customers c SET until = usage_bucket(clock_timestamp()) + interval '15 minutes', changed_at = clock_timestamp()
            WHERE c.tenant_id = p_tenant AND c.customer_id IS NOT NULL AND c.until IS NULL;
        RETURN;
    END IF;
    IF EXISTS (
        SELECT FROM stripe_customers c
        WHERE c.tenant_id = p_tenant AND c.customer_id IS NOT NULL AND c.since < beginning AND (
            c.until > clock_timestamp()
            OR EXISTS (SELECT FROM stripe_windows w WHERE w.tenant_id = p_tenant AND w.window_start < beginning)
            OR EXISTS (SELECT FROM ledger l WHERE l.tenant_id = p_tenant AND l.tx >= seen AND l.occurred_at >= c.since AND l.occurred_at < beginning))
    ) THEN
        RAISE EXCEPTION 'usage of before % is not sent yet', beginning USING ERRCODE = 'object_in_use';
    END IF;
    INSERT INTO stripe_customers AS c (tenant_id, customer_id, since) VALUES (p_tenant, p_customer, beginning)
        ON CONFLICT (tenant_id) DO UPDATE SET customer_id = p_customer, since = beginning, until = NULL, changed_at = clock_timestamp();
    INSERT INTO stripe_windows (tenant_id, window_start)
        SELECT DISTINCT u.tenant_id, date_trunc('hour', u.bucket_start, 'UTC') FROM usage u
        WHERE u.tenant_id = p_tenant AND u.bucket_start >= beginning
        ON CONFLICT DO NOTHING;
END
$$;

-- From now on every issued invoice has a digest, and one without is found whatever became of its neighbours'.
INSERT INTO invoice_digests (invoice_id, tenant_id, issuer, number, period_start, period_end, sha256)
    SELECT invoice_id, tenant_id, issuer, number, period_start, period_end, invoice_digest(invoice_id) FROM invoices WHERE state <> 'draft'
    ON CONFLICT DO NOTHING;

"""#),
        (name: "0040_refused_is_not_unknown", sql: #"""
-- When the attempt that is under way, or was the last one, began.
ALTER TABLE stripe_deliveries ADD COLUMN attempt_began_at timestamptz;

-- As before, with the instant of the attempt.
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
                attempt_began_at = began, next_attempt_at = began + p_lease_ms * interval '1 millisecond'
            FROM due WHERE d.identifier = due.identifier
            RETURNING d.*
        )
        SELECT t.identifier, t.tenant_id, coalesce(t.customer_id, c.customer_id), t.meter, t.value,
            t.window_start + interval '1 hour' - interval '1 second', t.attempt
        FROM taken t JOIN stripe_customers c ON c.tenant_id = t.tenant_id;
END
$$;

-- As before; but an attempt that was refused for the key or for the rate has an end that is known: nothing was taken. Where all attempts ended so, no
-- day runs in which Stripe must remember the identifier, and a key that was wrong for days parks nothing.
CREATE OR REPLACE FUNCTION finish_stripe_delivery(
    p_identifier text, p_attempt integer, p_outcome text, p_status smallint, p_error text, p_pause_ms bigint
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE stripe_deliveries d SET last_status = p_status, last_error = left(p_error, 200),
        state = CASE p_outcome WHEN 'delivered' THEN 'delivered' WHEN 'again' THEN 'pending' ELSE 'failed' END,
        next_attempt_at = CASE p_outcome WHEN 'again' THEN clock_timestamp() + p_pause_ms * interval '1 millisecond' END,
        first_attempt_at = CASE WHEN p_outcome = 'again' AND p_status IN (401, 403, 429) THEN nullif(d.first_attempt_at, d.attempt_began_at)
            ELSE d.first_attempt_at END,
        finished_at = CASE WHEN p_outcome <> 'again' THEN clock_timestamp() END
        WHERE d.identifier = p_identifier AND d.attempt = p_attempt AND d.state = 'pending';
    RETURN FOUND;
END
$$;

"""#),
        (name: "0041_what_requests_cost", sql: #"""
-- What a tier says of requests that no worker answered: whether a hit of the cache counts as a request, and whether one does that failed
-- because a worker refused its input. Everything else that fails is free, in every tier.
ALTER TABLE tier_versions
    ADD COLUMN cache_hit_request text NOT NULL DEFAULT 'charged' CHECK (cache_hit_request IN ('charged', 'free')),
    ADD COLUMN failed_request text NOT NULL DEFAULT 'free' CHECK (failed_request IN ('charged', 'free'));

-- What was charged of the request itself where that is not what its status says, written by the transaction that writes the entry: 0 of one
-- that was completed, 1 of one that failed. NULL is 1 of what was completed, and no entry for what was not.
ALTER TABLE requests
    ADD COLUMN charged_requests smallint,
    ADD CONSTRAINT requests_charged CHECK (
        charged_requests IS NULL OR charged_requests = 0 AND status = 'completed' OR charged_requests = 1 AND status = 'failed') NOT VALID;
GRANT SELECT (charged_requests) ON requests TO weir_admin, weir_reports;
GRANT UPDATE (charged_requests) ON requests TO weir_writer;

-- An entry of a hit that is free says so: it counts no request. All that stand count one, so there is nothing to look through.
ALTER TABLE ledger
    DROP CONSTRAINT ledger_check1,
    ADD CONSTRAINT ledger_usage CHECK (kind <> 'usage' OR (entry_id = request_id AND requests IN (0, 1) AND input_tokens >= 0
        AND output_tokens >= 0 AND cached_input_tokens BETWEEN 0 AND input_tokens)) NOT VALID;

-- As before, with the two terms behind all others.
CREATE OR REPLACE VIEW tier_offers WITH (security_invoker = true) AS
SELECT t.code, t.name, t.tenant_id, t.created_at AS tier_created_at, v.tier_version_id, v.version, v.state, v.currency,
    v.base_fee_micros, v.minimum_commitment_micros, v.included_requests, v.included_tokens, v.trial_days, v.effective_at,
    v.cache_hit_token_percent, v.stream_leave, v.result_ttl_seconds, v.created_at, v.published_at,
    p.meters, p.models, p.price_models, p.unit_prices, p.package_sizes,
    b.meters AS band_meters, b.models AS band_models, b.up_to AS band_ends, b.unit_prices AS band_prices,
    m.meters AS multiplier_meters, m.models AS multiplier_models, m.multipliers,
    q.units AS quota_units, q.frequencies, q.amounts AS quota_amounts, q.modes, q.alignments, q.thresholds,
    l.scopes, l.units AS limit_units, l.amounts AS limit_amounts, l.bursts,
    v.cache_hit_request, v.failed_request
FROM tier_versions v
JOIN tiers t ON t.code = v.tier_code
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(price_model ORDER BY meter, model), '{}') AS price_models,
        coalesce(array_agg(unit_price::text ORDER BY meter, model), '{}') AS unit_prices,
        coalesce(array_agg(coalesce(package_size, -1) ORDER BY meter, model), '{}') AS package_sizes
    FROM tier_prices WHERE tier_version_id = v.tier_version_id
) p
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model, band), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model, band), '{}') AS models,
        coalesce(array_agg(coalesce(up_to, -1) ORDER BY meter, model, band), '{}') AS up_to,
        coalesce(array_agg(unit_price::text ORDER BY meter, model, band), '{}') AS unit_prices
    FROM tier_price_bands WHERE tier_version_id = v.tier_version_id
) b
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(multiplier::text ORDER BY meter, model), '{}') AS multipliers
    FROM tier_multipliers WHERE tier_version_id = v.tier_version_id
) m
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(unit ORDER BY unit, frequency), '{}') AS units,
        coalesce(array_agg(frequency ORDER BY unit, frequency), '{}') AS frequencies,
        coalesce(array_agg(amount ORDER BY unit, frequency), '{}') AS amounts,
        coalesce(array_agg(mode ORDER BY unit, frequency), '{}') AS modes,
        coalesce(array_agg(alignment ORDER BY unit, frequency), '{}') AS alignments,
        coalesce(array_agg(array_to_string(thresholds_percent, ',') ORDER BY unit, frequency), '{}') AS thresholds
    FROM tier_quotas WHERE tier_version_id = v.tier_version_id
) q
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
        coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
        coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
        coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
    FROM tier_rate_limits WHERE tier_version_id = v.tier_version_id
) l;

"""#),
        (name: "0042_what_other_terms_see", sql: #"""
-- What replay and tier analysis have to see of the past: hits of the cache and streams that were left, which other terms would have charged
-- otherwise, and minutes, which rate limits are about. All of it follows from ledger and request rows, under the same watermark as usage, and can
-- be rebuilt.

-- What of usage was charged by a tier's word about hits and about leaving; only rows of usage that have any. Tokens that were served are those
-- that a hit's answer had when a worker gave it. A stream that was drained was charged for more than was delivered.
CREATE TABLE term_usage (
    tenant_id                 uuid NOT NULL,
    bucket_start              timestamptz NOT NULL,
    key_id                    uuid NOT NULL,
    model                     text NOT NULL,
    tier_version_id           uuid NOT NULL,
    hits                      bigint NOT NULL,
    served_input_tokens       bigint NOT NULL,
    served_output_tokens      bigint NOT NULL,
    hit_input_tokens          bigint NOT NULL,
    hit_cached_input_tokens   bigint NOT NULL,
    hit_output_tokens         bigint NOT NULL,
    left_streams              bigint NOT NULL,
    drained_streams           bigint NOT NULL,
    drained_output_tokens     bigint NOT NULL,
    drained_delivered_tokens  bigint NOT NULL,
    PRIMARY KEY (tenant_id, bucket_start, key_id, model, tier_version_id)
);

-- Minutes in which something was used, of all models and keys together, for thirteen months. What a limit sees of a request depends on when in
-- the minute it came and on what it held meanwhile, so there are two counts of it: what it was at least, and what it can have been at most.
CREATE TABLE usage_minutes (
    tenant_id     uuid NOT NULL,
    minute        timestamptz NOT NULL,
    -- The ledger's, corrections among them.
    requests      bigint NOT NULL,
    tokens        bigint NOT NULL,
    -- At most: all that came, failed ones too, and jobs when they were submitted; what they held while they ran, and what they can have been charged by other terms.
    arrivals      bigint NOT NULL,
    held_tokens   bigint NOT NULL,
    most_tokens   bigint NOT NULL,
    -- At least: what was answered, without jobs; what would be charged by any terms; for how long it ran within the minute.
    admitted      bigint NOT NULL,
    least_tokens  bigint NOT NULL,
    busy_us       bigint NOT NULL,
    -- When the last of those that came had ended.
    last_end      timestamptz,
    PRIMARY KEY (tenant_id, minute)
);
CREATE INDEX usage_minutes_by_minute ON usage_minutes (minute);

CREATE FUNCTION usage_minute(instant timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_bin('1 minute', instant, timestamptz '1970-01-01 00:00:00+00') $$;

-- Whether leaving can have decided what a stream was charged: not where requests have a fixed number of tokens, or one for each of their inputs.
CREATE FUNCTION is_left_stream(p_end text, p_source text, p_input bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT coalesce(p_end = 'client_left' AND p_source <> 'fixed' AND NOT (p_source = 'counted' AND p_input = 0), false) $$;

-- Whether a stream whose caller left was charged for what was made and not for what was delivered: all of it, or as much as was held.
CREATE FUNCTION is_drained_stream(
    p_end text, p_delivered bigint, p_generated bigint, p_held bigint, p_input bigint, p_output bigint
) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT coalesce(p_end = 'client_left' AND p_output > p_delivered AND (p_output = p_generated OR p_input + p_output = p_held), false)
    $$;

-- One row for each request that was charged, also where it failed, and for each that failed for nothing, with all that roll-ups count of it. Of
-- one that has no row of its own any more it is not known what it held and for how long, so it is taken to have held all that there is, for a day.
-- A job takes its rate limits when it is submitted, for good, and its slot is free at once; one that failed came to nothing yet, because it can be
-- tried again.
CREATE VIEW settled_requests AS
    SELECT tx, entry_id, tenant_id, key_id, model, tier_version_id, occurred_at, is_billed, is_recorded, is_failed, cache_hit, busy_us AS took_us,
        error_code, http_status, outcome_at, arrived_at,
        arrivals, greatest(held_tokens, most_tokens) AS held_tokens, most_tokens,
        is_admitted::integer AS admitted, CASE WHEN is_admitted AND hits + left_streams = 0 THEN tokens ELSE 0 END AS least_tokens,
        CASE WHEN is_admitted THEN least(busy_us, 60000000 - extract(microseconds FROM arrived_at AT TIME ZONE 'UTC')::bigint) ELSE 0 END AS busy_us,
        last_end, hits, served_input_tokens, served_output_tokens, hit_input_tokens, hit_cached_input_tokens, hit_output_tokens, left_streams,
        drained_streams, drained_output_tokens, drained_delivered_tokens
    FROM (
        SELECT l.tx, l.entry_id, l.tenant_id, l.key_id, l.model, l.tier_version_id, l.occurred_at, true AS is_billed,
            r.request_id IS NOT NULL AS is_recorded, coalesce(r.status = 'failed', false) AS is_failed, is_cache_hit(r.cached) AS cache_hit,
            coalesce(r.processing_us, 0) AS busy_us, r.error_code, r.http_status, coalesce(r.started_at, r.created_at) AS outcome_at,
            CASE WHEN r.is_job THEN r.created_at ELSE l.occurred_at END AS arrived_at, l.input_tokens + l.output_tokens AS tokens,
            coalesce(r.estimated_tokens, 1000000000000) AS held_tokens,
            CASE WHEN r.request_id IS NULL OR r.is_job OR r.stream_end = 'client_left' THEN coalesce(r.estimated_tokens, 1000000000000)
                ELSE greatest(l.input_tokens + l.output_tokens, l.served_input_tokens + l.served_output_tokens) END AS most_tokens,
            1 AS arrivals, NOT coalesce(r.is_job, true) AND r.status <> 'failed' AS is_admitted,
            CASE WHEN r.request_id IS NULL THEN l.occurred_at + interval '1 day' WHEN r.is_job THEN r.created_at
                ELSE greatest(r.completed_at, l.occurred_at + coalesce(r.processing_us, 0) * interval '1 microsecond') END AS last_end,
            (l.token_source = 'cache')::integer AS hits, l.served_input_tokens, l.served_output_tokens,
            CASE WHEN l.token_source = 'cache' THEN l.input_tokens ELSE 0 END AS hit_input_tokens,
            CASE WHEN l.token_source = 'cache' THEN l.cached_input_tokens ELSE 0 END AS hit_cached_input_tokens,
            CASE WHEN l.token_source = 'cache' THEN l.output_tokens ELSE 0 END AS hit_output_tokens,
            s.is_left::integer AS left_streams, s.is_drained::integer AS drained_streams,
            CASE WHEN s.is_drained THEN l.output_tokens ELSE 0 END AS drained_output_tokens,
            CASE WHEN s.is_drained THEN r.delivered_tokens ELSE 0 END AS drained_delivered_tokens
        FROM ledger l LEFT JOIN requests r ON r.request_id = l.entry_id
            CROSS JOIN LATERAL (SELECT is_left_stream(r.stream_end, l.token_source, l.input_tokens) AS is_left) c
            CROSS JOIN LATERAL (SELECT c.is_left, c.is_left AND is_drained_stream(r.stream_end, r.delivered_tokens, r.generated_tokens,
                r.estimated_tokens, l.input_tokens, l.output_tokens) AS is_drained) s
        WHERE l.kind = 'usage'
        UNION ALL
        SELECT r.tx, r.request_id, r.tenant_id, r.key_id, r.model, r.tier_version_id, r.created_at, false, true, true, is_cache_hit(r.cached),
            coalesce(r.processing_us, 0), r.error_code, r.http_status, coalesce(r.started_at, r.created_at), r.created_at, 0,
            CASE WHEN r.is_job THEN 0 ELSE coalesce(r.estimated_tokens, 1000000000000) END, 0, (NOT r.is_job)::integer, false,
            CASE WHEN NOT r.is_job THEN greatest(r.completed_at, r.created_at + coalesce(r.processing_us, 0) * interval '1 microsecond') END,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM requests r WHERE r.status = 'failed' AND coalesce(r.charged_requests, 0) = 0
    ) AS settled;
REVOKE ALL ON settled_requests FROM PUBLIC;

-- As before, and the terms and minutes of the same requests, whose rows are read once. Minutes that are too old go, some with each step.
CREATE OR REPLACE FUNCTION roll_up_usage() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    from_tx xid8;
    to_tx xid8;
    added bigint;
BEGIN
    SELECT position INTO from_tx FROM rollup_watermark FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    to_tx := pg_snapshot_xmin(pg_current_snapshot());
    IF to_tx <= from_tx THEN
        RETURN 0;
    END IF;
    to_tx := least(to_tx, roll_up_end(from_tx));
    WITH entries AS MATERIALIZED (
        SELECT tenant_id, occurred_at, usage_bucket(occurred_at) AS bucket_start, key_id, model, tier_version_id, requests, input_tokens,
            cached_input_tokens, output_tokens
        FROM ledger WHERE tx >= from_tx AND tx < to_tx
    ), fresh AS MATERIALIZED (
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, count(*) AS entries, sum(requests)::bigint AS requests,
            sum(input_tokens)::bigint AS input_tokens, sum(cached_input_tokens)::bigint AS cached_input_tokens,
            sum(output_tokens)::bigint AS output_tokens
        FROM entries GROUP BY 1, 2, 3, 4, 5
    ), by_tenant AS (
        INSERT INTO usage AS u (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens,
            cached_input_tokens, output_tokens)
        SELECT tenant_id, bucket_start, key_id, model, tier_version_id, requests, input_tokens, cached_input_tokens, output_tokens
        FROM fresh ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            requests_count = u.requests_count + EXCLUDED.requests_count,
            input_tokens = u.input_tokens + EXCLUDED.input_tokens,
            cached_input_tokens = u.cached_input_tokens + EXCLUDED.cached_input_tokens,
            output_tokens = u.output_tokens + EXCLUDED.output_tokens
    ), settled AS MATERIALIZED (
        SELECT * FROM settled_requests WHERE tx >= from_tx AND tx < to_tx
    ), by_terms AS (
        INSERT INTO term_usage AS t (tenant_id, bucket_start, key_id, model, tier_version_id, hits, served_input_tokens, served_output_tokens,
            hit_input_tokens, hit_cached_input_tokens, hit_output_tokens, left_streams, drained_streams, drained_output_tokens,
            drained_delivered_tokens)
        SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(hits), sum(served_input_tokens),
            sum(served_output_tokens), sum(hit_input_tokens), sum(hit_cached_input_tokens), sum(hit_output_tokens), sum(left_streams),
            sum(drained_streams), sum(drained_output_tokens), sum(drained_delivered_tokens)
        FROM settled WHERE hits + left_streams > 0 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (tenant_id, bucket_start, key_id, model, tier_version_id) DO UPDATE SET
            hits = t.hits + EXCLUDED.hits,
            served_input_tokens = t.served_input_tokens + EXCLUDED.served_input_tokens,
            served_output_tokens = t.served_output_tokens + EXCLUDED.served_output_tokens,
            hit_input_tokens = t.hit_input_tokens + EXCLUDED.hit_input_tokens,
            hit_cached_input_tokens = t.hit_cached_input_tokens + EXCLUDED.hit_cached_input_tokens,
            hit_output_tokens = t.hit_output_tokens + EXCLUDED.hit_output_tokens,
            left_streams = t.left_streams + EXCLUDED.left_streams,
            drained_streams = t.drained_streams + EXCLUDED.drained_streams,
            drained_output_tokens = t.drained_output_tokens + EXCLUDED.drained_output_tokens,
            drained_delivered_tokens = t.drained_delivered_tokens + EXCLUDED.drained_delivered_tokens
    ), by_minute AS (
        INSERT INTO usage_minutes AS m (tenant_id, minute, requests, tokens, arrivals, held_tokens, most_tokens, admitted, least_tokens,
            busy_us, last_end)
        SELECT tenant_id, minute, sum(requests), sum(tokens), sum(arrivals), sum(held_tokens), sum(most_tokens), sum(admitted),
            sum(least_tokens), sum(busy_us), max(last_end)
        FROM (
            SELECT tenant_id, usage_minute(occurred_at) AS minute, requests, input_tokens + output_tokens AS tokens, 0 AS arrivals,
                0 AS held_tokens, 0 AS most_tokens, 0 AS admitted, 0 AS least_tokens, 0 AS busy_us, NULL::timestamptz AS last_end
            FROM entries
            UNION ALL
            SELECT tenant_id, usage_minute(arrived_at), 0, 0, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us, last_end
            FROM settled WHERE arrivals > 0
        ) minutes
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (tenant_id, minute) DO UPDATE SET
            requests = m.requests + EXCLUDED.requests,
            tokens = m.tokens + EXCLUDED.tokens,
            arrivals = m.arrivals + EXCLUDED.arrivals,
            held_tokens = m.held_tokens + EXCLUDED.held_tokens,
            most_tokens = m.most_tokens + EXCLUDED.most_tokens,
            admitted = m.admitted + EXCLUDED.admitted,
            least_tokens = m.least_tokens + EXCLUDED.least_tokens,
            busy_us = m.busy_us + EXCLUDED.busy_us,
            last_end = greatest(m.last_end, EXCLUDED.last_end)
    ), outcomes AS MATERIALIZED (
        SELECT model, usage_bucket(outcome_at) AS bucket_start, is_failed, cache_hit, took_us AS busy_us, error_code, http_status
        FROM settled WHERE is_recorded
    ), parts AS (
        SELECT model, bucket_start, requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits, 0 AS busy_us
        FROM fresh
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ), by_model AS (
        INSERT INTO model_usage_metrics AS m (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
        SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us)
        FROM parts GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (model_name, time_window) DO UPDATE SET
            request_count = m.request_count + EXCLUDED.request_count,
            token_count = m.token_count + EXCLUDED.token_count,
            error_count = m.error_count + EXCLUDED.error_count,
            cache_hit_count = m.cache_hit_count + EXCLUDED.cache_hit_count,
            busy_us = m.busy_us + EXCLUDED.busy_us
    ), by_latency AS (
        INSERT INTO model_latencies AS m (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (model_name, time_window, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_latency_day AS (
        INSERT INTO model_latency_days AS m (model_name, day, latency_class, requests_count)
        SELECT model, usage_day(bucket_start), latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (day, model_name, latency_class) DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    ), by_error AS (
        INSERT INTO model_errors AS m (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (model_name, time_window, error_code, http_status)
            DO UPDATE SET requests_count = m.requests_count + EXCLUDED.requests_count
    )
    SELECT coalesce(sum(entries), 0)::bigint INTO added FROM fresh;
    PERFORM roll_up_tags(from_tx, to_tx);
    UPDATE rollup_watermark SET position = to_tx;
    DELETE FROM usage_minutes WHERE (tenant_id, minute) IN (
        SELECT tenant_id, minute FROM usage_minutes WHERE minute < now() - interval '13 months' ORDER BY minute LIMIT 1000);
    RETURN added;
END
$$;

-- The part of rebuild_usage that is new: what is said of it holds here, and the watermark's lock is held.
CREATE FUNCTION rebuild_terms_and_minutes(p_from timestamptz, p_to timestamptz, p_earliest uuid, p_reached xid8) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    first_minute timestamptz := greatest(p_from, usage_minute(now() - interval '13 months'));
BEGIN
    DELETE FROM term_usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO term_usage (tenant_id, bucket_start, key_id, model, tier_version_id, hits, served_input_tokens, served_output_tokens,
        hit_input_tokens, hit_cached_input_tokens, hit_output_tokens, left_streams, drained_streams, drained_output_tokens,
        drained_delivered_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(hits), sum(served_input_tokens),
        sum(served_output_tokens), sum(hit_input_tokens), sum(hit_cached_input_tokens), sum(hit_output_tokens), sum(left_streams),
        sum(drained_streams), sum(drained_output_tokens), sum(drained_delivered_tokens)
    FROM settled_requests
    WHERE entry_id >= p_earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < p_reached AND hits + left_streams > 0
    GROUP BY 1, 2, 3, 4, 5;

    DELETE FROM usage_minutes WHERE minute >= p_from AND minute < p_to;
    INSERT INTO usage_minutes (tenant_id, minute, requests, tokens, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us,
        last_end)
    SELECT tenant_id, minute, sum(requests), sum(tokens), sum(arrivals), sum(held_tokens), sum(most_tokens), sum(admitted),
        sum(least_tokens), sum(busy_us), max(last_end)
    FROM (
        SELECT tenant_id, usage_minute(occurred_at) AS minute, requests, input_tokens + output_tokens AS tokens, 0 AS arrivals,
            0 AS held_tokens, 0 AS most_tokens, 0 AS admitted, 0 AS least_tokens, 0 AS busy_us, NULL::timestamptz AS last_end
        FROM ledger WHERE entry_id >= p_earliest AND occurred_at >= first_minute AND occurred_at < p_to AND tx < p_reached
        UNION ALL
        SELECT tenant_id, usage_minute(arrived_at), 0, 0, arrivals, held_tokens, most_tokens, admitted, least_tokens, busy_us, last_end
        FROM settled_requests
        WHERE entry_id >= p_earliest AND arrived_at >= first_minute AND arrived_at < p_to AND arrivals > 0
            AND (tx < p_reached OR tx IS NULL AND NOT is_billed)
    ) minutes
    GROUP BY 1, 2;
END
$$;
REVOKE ALL ON FUNCTION rebuild_terms_and_minutes FROM PUBLIC;

-- As before, with the new roll-ups.
CREATE OR REPLACE FUNCTION rebuild_usage(p_from timestamptz, p_to timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    reached xid8;
    earliest uuid;
    rebuilt bigint;
BEGIN
    IF isfinite(p_from) AND usage_bucket(p_from) <> p_from OR isfinite(p_to) AND usage_bucket(p_to) <> p_to THEN
        RAISE EXCEPTION 'the ends are not on a quarter of an hour' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    earliest := uuid_lower_bound(greatest(p_from, timestamptz '1970-01-17 00:00:00+00') - interval '15 days');
    DELETE FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO usage (tenant_id, bucket_start, key_id, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, usage_bucket(occurred_at), key_id, model, tier_version_id, sum(requests), sum(input_tokens),
        sum(cached_input_tokens), sum(output_tokens)
    FROM ledger WHERE entry_id >= earliest AND occurred_at >= p_from AND occurred_at < p_to AND tx < reached
    GROUP BY 1, 2, 3, 4, 5;

    PERFORM rebuild_terms_and_minutes(p_from, p_to, earliest, reached);

    DELETE FROM tag_usage WHERE bucket_start >= p_from AND bucket_start < p_to;
    INSERT INTO tag_usage (tenant_id, bucket_start, tag, model, tier_version_id, requests_count, input_tokens, cached_input_tokens,
        output_tokens)
    SELECT tenant_id, bucket_start, tag, model, tier_version_id, sum(requests), sum(input_tokens), sum(cached_input_tokens),
        sum(output_tokens)
    FROM (
        SELECT DISTINCT e.entry_id, e.tenant_id, usage_bucket(e.occurred_at) AS bucket_start, coalesce(k.tag, 'other') AS tag, e.model,
            e.tier_version_id, e.requests, e.input_tokens, e.cached_input_tokens, e.output_tokens
        FROM tagged_entries e
        LEFT JOIN usage_tags k ON k.tenant_id = e.tenant_id AND k.month = usage_month(e.occurred_at) AND k.tag = e.tag
        WHERE e.entry_id >= earliest AND e.occurred_at >= p_from AND e.occurred_at < p_to AND e.tx < reached
    ) parts
    GROUP BY 1, 2, 3, 4, 5;

    DELETE FROM model_latencies WHERE time_window >= p_from AND time_window < p_to;
    DELETE FROM model_errors WHERE time_window >= p_from AND time_window < p_to;
    UPDATE model_usage_metrics SET request_count = 0, token_count = 0, error_count = 0, cache_hit_count = 0, busy_us = 0
    WHERE time_window >= p_from AND time_window < p_to;
    WITH outcomes AS MATERIALIZED (
        SELECT o.model, usage_bucket(o.created_at) AS bucket_start, o.status = 'failed' AS is_failed, o.cache_hit, o.busy_us, o.error_code,
            o.http_status
        FROM request_outcomes o
        WHERE o.request_id >= earliest AND o.created_at >= p_from AND o.created_at < p_to
            AND (o.status = 'completed' AND EXISTS (SELECT FROM ledger l WHERE l.entry_id = o.request_id AND l.tx < reached)
                OR o.status = 'failed' AND (o.tx IS NULL OR o.tx < reached))
    ), by_latency AS (
        INSERT INTO model_latencies (model_name, time_window, latency_class, requests_count)
        SELECT model, bucket_start, latency_class(busy_us), count(*) FROM outcomes WHERE NOT is_failed GROUP BY 1, 2, 3
    ), by_error AS (
        INSERT INTO model_errors (model_name, time_window, error_code, http_status, requests_count)
        SELECT model, bucket_start, coalesce(error_code, ''), coalesce(http_status, 0), count(*) FROM outcomes WHERE is_failed
        GROUP BY 1, 2, 3, 4
    )
    INSERT INTO model_usage_metrics (model_name, time_window, request_count, token_count, error_count, cache_hit_count, busy_us)
    SELECT model, bucket_start, sum(requests), sum(tokens), sum(errors), sum(cache_hits), sum(busy_us) FROM (
        SELECT model, bucket_start, requests_count AS requests, input_tokens + output_tokens AS tokens, 0 AS errors, 0 AS cache_hits,
            0 AS busy_us
        FROM usage WHERE bucket_start >= p_from AND bucket_start < p_to
        UNION ALL
        SELECT model, bucket_start, 0, 0, is_failed::integer, cache_hit::integer, busy_us FROM outcomes
    ) AS parts
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (model_name, time_window) DO UPDATE SET
        request_count = EXCLUDED.request_count, token_count = EXCLUDED.token_count, error_count = EXCLUDED.error_count,
        cache_hit_count = EXCLUDED.cache_hit_count, busy_us = EXCLUDED.busy_us;
    GET DIAGNOSTICS rebuilt = ROW_COUNT;

    -- Whole days, also where the range begins or ends within one.
    DELETE FROM model_latency_days WHERE day >= usage_day(p_from) AND day <= usage_day(p_to);
    INSERT INTO model_latency_days (model_name, day, latency_class, requests_count)
    SELECT model_name, usage_day(time_window), latency_class, sum(requests_count) FROM model_latencies
    WHERE time_window >= date_trunc('day', p_from, 'UTC') AND time_window < date_trunc('day', p_to, 'UTC') + interval '1 day'
    GROUP BY 1, 2, 3;
    RETURN rebuilt;
END
$$;

ALTER TABLE term_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_minutes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON term_usage FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY own_rows ON usage_minutes FOR SELECT TO weir_reader USING (tenant_id = (SELECT current_tenant()));
CREATE POLICY roll_up ON term_usage TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY roll_up ON usage_minutes TO weir_jobs USING (true) WITH CHECK (true);
CREATE POLICY all_rows ON term_usage FOR SELECT TO weir_admin, weir_reports USING (true);
CREATE POLICY all_rows ON usage_minutes FOR SELECT TO weir_admin, weir_reports USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON term_usage, usage_minutes TO weir_jobs;
GRANT SELECT ON term_usage, usage_minutes TO weir_reader, weir_admin, weir_reports;
GRANT SELECT ON settled_requests TO weir_jobs, weir_reports;

-- For what the watermark has passed. What it has not is added by the next roll-up, which waits for this one's end.
DO $$
DECLARE
    reached xid8;
BEGIN
    SELECT position INTO reached FROM rollup_watermark FOR UPDATE;
    PERFORM rebuild_terms_and_minutes('-infinity', 'infinity', uuid_lower_bound('1970-01-02 00:00:00+00'), reached);
END
$$;

"""#),
        (name: "0043_waits_of_starts", sql: #"""
-- Processes that start together make partitions one after the other: the later ones wait until the first is done, and not only for as long
-- as they may keep settlement waiting.
CREATE OR REPLACE FUNCTION ensure_partitions(p_from timestamptz, p_months integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '20s'
    AS $$
DECLARE
    parent text;
    first timestamptz;
    child text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('weir.ensure_partitions'));
    -- From here on it is the default partitions that are waited for, and settlement waits behind whoever waits for those.
    PERFORM set_config('lock_timeout', '2s', true);
    FOR month IN 0 .. p_months - 1 LOOP
        first := date_trunc('month', p_from) + make_interval(months => month);
        FOREACH parent IN ARRAY ARRAY['requests', 'ledger'] LOOP
            child := format('%s_y%sm%s', parent, to_char(first, 'YYYY'), to_char(first, 'MM'));
            IF to_regclass(child) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                        uuid_lower_bound(first), uuid_lower_bound(first + interval '1 month'));
                    IF parent = 'ledger' THEN
                        EXECUTE format('CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
                            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', child);
                    END IF;
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    RAISE WARNING '% cannot be made: the default partition holds rows of it', child;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Of two that look at once the one that took its time first may look last. It must not take the other's look for one of a clock that was
-- set back, and look again.
CREATE OR REPLACE FUNCTION look_at_quotas(p_pause_ms bigint, p_sweep_ms bigint) RETURNS TABLE (
    quota uuid, starts timestamptz, ends timestamptz, tenant uuid, how text, included bigint, allowed bigint, used bigint,
    thresholds smallint[], raised smallint[], at timestamptz
)
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    last quota_watch%ROWTYPE;
    now_generation bigint;
    is_sweep boolean;
BEGIN
    SELECT w.* INTO last FROM quota_watch w
        WHERE w.looked_at <= began - p_pause_ms * interval '1 millisecond' OR w.looked_at > clock_timestamp()
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT g.value INTO now_generation FROM control_generation g;
    is_sweep := now_generation <> last.generation OR last.swept_at <= began - p_sweep_ms * interval '1 millisecond'
        OR last.swept_at > clock_timestamp();
    UPDATE quota_watch w SET looked_at = began, generation = now_generation,
        swept_at = CASE WHEN is_sweep THEN began ELSE w.swept_at END;
    RETURN QUERY
        WITH touched AS MATERIALIZED (
            SELECT s.quota_id, s.period_start FROM quota_leases l JOIN quota_lease_slices s ON s.lease_id = l.lease_id
            WHERE l.state = 'open'
            UNION
            -- A lease has its time of closing a moment before others can see that it is closed.
            SELECT s.quota_id, s.period_start FROM quota_leases l JOIN quota_lease_slices s ON s.lease_id = l.lease_id
            WHERE l.state = 'closed' AND l.closed_at >= greatest(last.looked_at - interval '10 seconds', began - interval '1 hour')
            UNION
            SELECT p.quota_id, p.period_start FROM quota_periods p WHERE is_sweep AND p.period_end > began - interval '1 hour'
        ), known AS (
            SELECT p.quota_id, p.period_start, p.period_end, p.tenant_id, p.settled, p.settled + p.held AS bound, p.used_seen, q.unit,
                q.mode, q.amount, quota_limit(q.quota_id, q.amount, p.period_start) AS allowed, q.thresholds_percent,
                ARRAY(SELECT e.threshold_percent FROM quota_events e
                    WHERE e.quota_id = p.quota_id AND e.period_start = p.period_start) AS raised
            FROM touched t
            JOIN quota_periods p ON p.quota_id = t.quota_id AND p.period_start = t.period_start
            JOIN quotas q ON q.quota_id = p.quota_id
            WHERE q.retired_at IS NULL AND p.settled + p.held > 0
        ), due AS (
            SELECT k.* FROM known k
            WHERE EXISTS (SELECT FROM unnest(k.thresholds_percent) AS t
                    WHERE t <> ALL (k.raised) AND k.bound::numeric * 100 >= k.allowed::numeric * t)
                OR (k.mode <> 'hard' AND k.used_seen <= k.allowed AND k.bound > k.allowed)
            ORDER BY random() LIMIT 500
        )
        SELECT d.quota_id, d.period_start, d.period_end, d.tenant_id, d.mode, d.amount, d.allowed, d.settled + (
                SELECT coalesce(sum(CASE d.unit WHEN 'requests' THEN e.requests ELSE e.input_tokens + e.output_tokens END), 0)::bigint
                FROM quota_leases l
                JOIN quota_lease_slices s ON s.lease_id = l.lease_id
                JOIN ledger e ON e.lease_id = l.lease_id
                WHERE l.tenant_id = d.tenant_id AND l.state = 'open' AND s.quota_id = d.quota_id AND s.period_start = d.period_start),
            d.thresholds_percent, d.raised, began
        FROM due d;
END
$$;

"""#),
    ]
}
