-- Prices that were agreed with one tenant are nobody else's, a stay that was is not moved, and only a whole replay confirms a publication.

-- The parts of a version follow the version, and that follows its tier.
ALTER TABLE tier_prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_price_bands ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_multipliers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_rate_limits ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tier_prices FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_prices.tier_version_id));
CREATE POLICY own_rows ON tier_price_bands FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_price_bands.tier_version_id));
CREATE POLICY own_rows ON tier_multipliers FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_multipliers.tier_version_id));
CREATE POLICY own_rows ON tier_quotas FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_quotas.tier_version_id));
CREATE POLICY own_rows ON tier_rate_limits FOR SELECT TO weir_reader
    USING (EXISTS (SELECT FROM tier_versions v WHERE v.tier_version_id = tier_rate_limits.tier_version_id));
CREATE POLICY all_rows ON tier_prices FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_price_bands FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_multipliers FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_quotas FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY all_rows ON tier_rate_limits FOR SELECT TO weir_directory, weir_reports, weir_jobs USING (true);
CREATE POLICY administration ON tier_prices TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_price_bands TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_multipliers TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_quotas TO weir_admin USING (true) WITH CHECK (true);
CREATE POLICY administration ON tier_rate_limits TO weir_admin USING (true) WITH CHECK (true);

-- Bills and their replay follow from stays: one can be ended and be given its trial, each once, and nothing else. A superuser, who could
-- switch this off, may mend one by hand.
CREATE FUNCTION refuse_change_of_stay() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE'
        AND to_jsonb(NEW) - ARRAY['ends_at', 'trial_ends_at'] = to_jsonb(OLD) - ARRAY['ends_at', 'trial_ends_at']
        AND (OLD.ends_at IS NULL OR NEW.ends_at = OLD.ends_at)
        AND (OLD.trial_ends_at IS NOT DISTINCT FROM NEW.trial_ends_at OR OLD.trial_ends_at IS NULL AND OLD.ends_at IS NULL) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a stay on a tier can be ended and be given its trial, and nothing else' USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER subscriptions_immutable BEFORE UPDATE OR DELETE ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_stay();
REVOKE UPDATE ON subscriptions FROM weir_admin;
GRANT UPDATE (ends_at, trial_ends_at) ON subscriptions TO weir_admin;

-- Whether a replay is of all bills of the tier up to the last month that was over. Of those from before it is not known.
ALTER TABLE tier_replays ADD COLUMN is_whole boolean NOT NULL DEFAULT false;
