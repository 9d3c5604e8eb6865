-- What was left to be lost or overlooked: usage of before a customer's new beginning, and digests of invoices that are older than digests.

-- As before, but the beginning does not move past what is still to be sent: usage of before it would be sent to nobody. The caller is told to wait, by
-- the condition `object_in_use`.
CREATE OR REPLACE FUNCTION connect_stripe_customer(p_tenant uuid, p_customer text, p_since timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    beginning CONSTANT timestamptz := date_trunc('hour', p_since, 'UTC');
    seen xid8;
BEGIN
    -- Nobody looks at new entries meanwhile, or those that come now would be looked at by neither.
    SELECT position INTO seen FROM stripe_watermark FOR UPDATE;
    IF p_customer IS NULL THEN
        UPDATE stripe_customers c SET until = usage_bucket(clock_timestamp()) + interval '15 minutes', changed_at = clock_timestamp()
            WHERE c.tenant_id = p_tenant AND c.customer_id IS NOT NULL AND c.until IS NULL;
        RETURN;
    END IF;
    IF EXISTS (
        SELECT FROM stripe_customers c
        WHERE c.tenant_id = p_tenant AND c.customer_id IS NOT NULL AND c.since < beginning AND (
            c.until > clock_timestamp()
            OR EXISTS (SELECT FROM stripe_windows w WHERE w.tenant_id = p_tenant AND w.window_start < beginning)
            OR EXISTS (SELECT FROM ledger l WHERE l.tenant_id = p_tenant AND l.tx >= seen AND l.occurred_at >= c.since AND l.occurred_at < beginning))
    ) THEN
        RAISE EXCEPTION 'usage of before % is not sent yet', beginning USING ERRCODE = 'object_in_use';
    END IF;
    INSERT INTO stripe_customers AS c (tenant_id, customer_id, since) VALUES (p_tenant, p_customer, beginning)
        ON CONFLICT (tenant_id) DO UPDATE SET customer_id = p_customer, since = beginning, until = NULL, changed_at = clock_timestamp();
    INSERT INTO stripe_windows (tenant_id, window_start)
        SELECT DISTINCT u.tenant_id, date_trunc('hour', u.bucket_start, 'UTC') FROM usage u
        WHERE u.tenant_id = p_tenant AND u.bucket_start >= beginning
        ON CONFLICT DO NOTHING;
END
$$;

-- From now on every issued invoice has a digest, and one without is found whatever became of its neighbours'.
INSERT INTO invoice_digests (invoice_id, tenant_id, issuer, number, period_start, period_end, sha256)
    SELECT invoice_id, tenant_id, issuer, number, period_start, period_end, invoice_digest(invoice_id) FROM invoices WHERE state <> 'draft'
    ON CONFLICT DO NOTHING;
