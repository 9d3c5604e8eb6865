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
