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
