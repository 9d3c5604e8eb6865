-- What a keeper of a batch does after it has lost the batch, or did and did not note, makes no line be there twice.

-- The batches of p_batches that run, and whose claim each is. They stay so until the transaction is over: jobs that are submitted in it are there
-- before anybody cancels the batch or claims it.
CREATE FUNCTION share_batches(p_batches uuid[]) RETURNS TABLE (batch uuid, holder integer)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT b.batch_id, b.claim FROM batches b WHERE b.batch_id = ANY (p_batches) AND b.state = 'in_progress' ORDER BY b.batch_id FOR SHARE
    $$;

-- Lines up to here were read. Those of p_jobs became none, but where there is a job: an earlier keeper submitted it and did not come to note it.
-- The others are p_lines of the errors.
DROP FUNCTION note_batch_reading(uuid, integer, integer, integer, integer, integer, text);
CREATE FUNCTION note_batch_reading(
    p_batch uuid, p_claim integer, p_read_lines integer, p_position integer, p_offset integer, p_jobs uuid[], p_lines text[]
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    part record;
BEGIN
    PERFORM FROM batches b WHERE b.batch_id = p_batch AND b.claim = p_claim FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- No job comes any more: who submits has to hold the claim, and this is the holder.
    SELECT count(*)::integer AS lines, string_agg(s.line, '' ORDER BY s.place) AS content INTO part
    FROM unnest(p_jobs, p_lines) WITH ORDINALITY AS s (job_id, line, place)
    WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.job_id = s.job_id);
    UPDATE batches b SET read_lines = p_read_lines, read_position = p_position, read_offset = p_offset, skipped = b.skipped + part.lines,
        failed = b.failed + part.lines
    WHERE b.batch_id = p_batch;
    IF part.lines > 0 THEN
        PERFORM append_batch_lines(p_batch, true, part.content);
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION share_batches(uuid[]), note_batch_reading(uuid, integer, integer, integer, integer, uuid[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION share_batches(uuid[]), note_batch_reading(uuid, integer, integer, integer, integer, uuid[], text[]) TO weir_writer;

-- A settlement that is sent again writes the end of its job again, and must not shorten its stay either.
CREATE OR REPLACE TRIGGER jobs_of_batches_stay BEFORE UPDATE OF ended_at, expires_at ON jobs FOR EACH ROW
    WHEN (NEW.batch_id IS NOT NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION keep_batch_job();
