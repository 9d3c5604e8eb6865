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
