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
