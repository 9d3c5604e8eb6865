-- draft
-- Replays of a draft over past usage: what publishing a draft that moves a price far asks for.

-- What a version says, in one text: a draft that changes has another one.
CREATE FUNCTION tier_version_fingerprint(p_id uuid) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT encode(sha256(convert_to((to_jsonb(o) - ARRAY['state', 'published_at', 'created_at', 'tier_created_at', 'name'])::text, 'UTF8')), 'hex')
    FROM tier_offers o WHERE o.tier_version_id = p_id
    $$;

CREATE TABLE tier_replays (
    replay_id        uuid PRIMARY KEY,
    tier_version_id  uuid NOT NULL,
    -- Of the version as it was replayed.
    fingerprint      text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    -- Of the fingerprint and the whole result.
    digest           text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    result           jsonb NOT NULL,
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tier_replays_of_version ON tier_replays (tier_version_id, digest);
CREATE TRIGGER tier_replays_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tier_replays
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE tier_replays ENABLE ROW LEVEL SECURITY;
CREATE POLICY administration ON tier_replays TO weir_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON tier_replays TO weir_admin;
