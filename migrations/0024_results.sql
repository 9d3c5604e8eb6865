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
