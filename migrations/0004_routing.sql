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
