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
-- the stream to its end and charges all of it. The tier's word counts before the model's; where neither says anything it is 'cancel'.
ALTER TABLE model_registry
    ADD COLUMN delivery_stream_leave text CHECK (delivery_stream_leave IN ('cancel', 'drain')),
    ADD COLUMN delivery_stream_gap_ms bigint CHECK (delivery_stream_gap_ms BETWEEN 1 AND 3600000),
    ADD COLUMN delivery_stream_total_ms bigint CHECK (delivery_stream_total_ms BETWEEN 1 AND 86400000);
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
    ]
}
