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
