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
