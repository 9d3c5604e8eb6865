-- What a tier says of requests that no worker answered: whether a hit of the cache counts as a request, and whether one does that failed
-- because a worker refused its input. Everything else that fails is free, in every tier.
ALTER TABLE tier_versions
    ADD COLUMN cache_hit_request text NOT NULL DEFAULT 'charged' CHECK (cache_hit_request IN ('charged', 'free')),
    ADD COLUMN failed_request text NOT NULL DEFAULT 'free' CHECK (failed_request IN ('charged', 'free'));

-- What was charged of the request itself where that is not what its status says, written by the transaction that writes the entry: 0 of one
-- that was completed, 1 of one that failed. NULL is 1 of what was completed, and no entry for what was not.
ALTER TABLE requests
    ADD COLUMN charged_requests smallint,
    ADD CONSTRAINT requests_charged CHECK (
        charged_requests IS NULL OR charged_requests = 0 AND status = 'completed' OR charged_requests = 1 AND status = 'failed') NOT VALID;
GRANT SELECT (charged_requests) ON requests TO weir_admin, weir_reports;
GRANT UPDATE (charged_requests) ON requests TO weir_writer;

-- An entry of a hit that is free says so: it counts no request. All that stand count one, so there is nothing to look through.
ALTER TABLE ledger
    DROP CONSTRAINT ledger_check1,
    ADD CONSTRAINT ledger_usage CHECK (kind <> 'usage' OR (entry_id = request_id AND requests IN (0, 1) AND input_tokens >= 0
        AND output_tokens >= 0 AND cached_input_tokens BETWEEN 0 AND input_tokens)) NOT VALID;

-- As before, with the two terms behind all others.
CREATE OR REPLACE VIEW tier_offers WITH (security_invoker = true) AS
SELECT t.code, t.name, t.tenant_id, t.created_at AS tier_created_at, v.tier_version_id, v.version, v.state, v.currency,
    v.base_fee_micros, v.minimum_commitment_micros, v.included_requests, v.included_tokens, v.trial_days, v.effective_at,
    v.cache_hit_token_percent, v.stream_leave, v.result_ttl_seconds, v.created_at, v.published_at,
    p.meters, p.models, p.price_models, p.unit_prices, p.package_sizes,
    b.meters AS band_meters, b.models AS band_models, b.up_to AS band_ends, b.unit_prices AS band_prices,
    m.meters AS multiplier_meters, m.models AS multiplier_models, m.multipliers,
    q.units AS quota_units, q.frequencies, q.amounts AS quota_amounts, q.modes, q.alignments, q.thresholds,
    l.scopes, l.units AS limit_units, l.amounts AS limit_amounts, l.bursts,
    v.cache_hit_request, v.failed_request
FROM tier_versions v
JOIN tiers t ON t.code = v.tier_code
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(price_model ORDER BY meter, model), '{}') AS price_models,
        coalesce(array_agg(unit_price::text ORDER BY meter, model), '{}') AS unit_prices,
        coalesce(array_agg(coalesce(package_size, -1) ORDER BY meter, model), '{}') AS package_sizes
    FROM tier_prices WHERE tier_version_id = v.tier_version_id
) p
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model, band), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model, band), '{}') AS models,
        coalesce(array_agg(coalesce(up_to, -1) ORDER BY meter, model, band), '{}') AS up_to,
        coalesce(array_agg(unit_price::text ORDER BY meter, model, band), '{}') AS unit_prices
    FROM tier_price_bands WHERE tier_version_id = v.tier_version_id
) b
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(meter ORDER BY meter, model), '{}') AS meters,
        coalesce(array_agg(model ORDER BY meter, model), '{}') AS models,
        coalesce(array_agg(multiplier::text ORDER BY meter, model), '{}') AS multipliers
    FROM tier_multipliers WHERE tier_version_id = v.tier_version_id
) m
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(unit ORDER BY unit, frequency), '{}') AS units,
        coalesce(array_agg(frequency ORDER BY unit, frequency), '{}') AS frequencies,
        coalesce(array_agg(amount ORDER BY unit, frequency), '{}') AS amounts,
        coalesce(array_agg(mode ORDER BY unit, frequency), '{}') AS modes,
        coalesce(array_agg(alignment ORDER BY unit, frequency), '{}') AS alignments,
        coalesce(array_agg(array_to_string(thresholds_percent, ',') ORDER BY unit, frequency), '{}') AS thresholds
    FROM tier_quotas WHERE tier_version_id = v.tier_version_id
) q
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(scope ORDER BY scope, unit), '{}') AS scopes,
        coalesce(array_agg(unit ORDER BY scope, unit), '{}') AS units,
        coalesce(array_agg(coalesce(amount, -1) ORDER BY scope, unit), '{}') AS amounts,
        coalesce(array_agg(coalesce(burst, -1) ORDER BY scope, unit), '{}') AS bursts
    FROM tier_rate_limits WHERE tier_version_id = v.tier_version_id
) l;
