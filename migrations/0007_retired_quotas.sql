-- A tenant that changes to a tier without one of its quotas keeps the row: past periods and the audit log name it. It is retired: readers
-- leave it out, and it is soft, so that a gateway that still knows it refuses nothing because of it.
ALTER TABLE quotas ADD COLUMN retired_at timestamptz;
ALTER TABLE quotas ADD CONSTRAINT quotas_retired_are_soft CHECK (retired_at IS NULL OR mode = 'soft');
