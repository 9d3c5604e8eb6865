-- draft
-- Stands here only until the migration of this number is merged.
SELECT 1;
