-- draft
-- Kept free for retention of queued work.
SELECT 1;
