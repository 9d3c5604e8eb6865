-- draft
-- Kept free for the proof of the ledger.
SELECT 1;
