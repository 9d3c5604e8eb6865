-- When the attempt that is under way, or was the last one, began.
ALTER TABLE stripe_deliveries ADD COLUMN attempt_began_at timestamptz;

-- As before, with the instant of the attempt.
CREATE OR REPLACE FUNCTION claim_stripe_deliveries(p_limit integer, p_lease_ms bigint) RETURNS TABLE (
    delivery text, tenant uuid, customer text, event_meter text, sent_value bigint, event_at timestamptz, attempt_now integer
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    UPDATE stripe_deliveries d SET state = 'failed', next_attempt_at = NULL, finished_at = began,
        last_error = CASE WHEN d.window_start + interval '1 hour' <= began - interval '34 days 23 hours' THEN 'too_old' ELSE 'outcome_unknown' END
        WHERE d.identifier IN (
            SELECT x.identifier FROM stripe_deliveries x WHERE x.state = 'pending' AND x.next_attempt_at <= began
                AND (x.window_start + interval '1 hour' <= began - interval '34 days 23 hours'
                    OR x.first_attempt_at <= began - interval '23 hours')
            FOR UPDATE SKIP LOCKED);
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT d.identifier FROM stripe_deliveries d JOIN stripe_customers c ON c.tenant_id = d.tenant_id AND c.customer_id IS NOT NULL
            WHERE d.state = 'pending' AND d.next_attempt_at <= began
            ORDER BY d.next_attempt_at LIMIT p_limit FOR UPDATE OF d SKIP LOCKED
        ), taken AS (
            UPDATE stripe_deliveries d SET attempt = d.attempt + 1, first_attempt_at = coalesce(d.first_attempt_at, began),
                attempt_began_at = began, next_attempt_at = began + p_lease_ms * interval '1 millisecond'
            FROM due WHERE d.identifier = due.identifier
            RETURNING d.*
        )
        SELECT t.identifier, t.tenant_id, coalesce(t.customer_id, c.customer_id), t.meter, t.value,
            t.window_start + interval '1 hour' - interval '1 second', t.attempt
        FROM taken t JOIN stripe_customers c ON c.tenant_id = t.tenant_id;
END
$$;

-- As before; but an attempt that was refused for the key or for the rate has an end that is known: nothing was taken. Where all attempts ended so, no
-- day runs in which Stripe must remember the identifier, and a key that was wrong for days parks nothing.
CREATE OR REPLACE FUNCTION finish_stripe_delivery(
    p_identifier text, p_attempt integer, p_outcome text, p_status smallint, p_error text, p_pause_ms bigint
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE stripe_deliveries d SET last_status = p_status, last_error = left(p_error, 200),
        state = CASE p_outcome WHEN 'delivered' THEN 'delivered' WHEN 'again' THEN 'pending' ELSE 'failed' END,
        next_attempt_at = CASE p_outcome WHEN 'again' THEN clock_timestamp() + p_pause_ms * interval '1 millisecond' END,
        first_attempt_at = CASE WHEN p_outcome = 'again' AND p_status IN (401, 403, 429) THEN nullif(d.first_attempt_at, d.attempt_began_at)
            ELSE d.first_attempt_at END,
        finished_at = CASE WHEN p_outcome <> 'again' THEN clock_timestamp() END
        WHERE d.identifier = p_identifier AND d.attempt = p_attempt AND d.state = 'pending';
    RETURN FOUND;
END
$$;
