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
