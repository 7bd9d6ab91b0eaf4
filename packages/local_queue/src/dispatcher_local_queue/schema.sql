-- Times are milliseconds since 1970, in UTC. States are the words of the wire format.
CREATE TABLE job (
    seq INTEGER PRIMARY KEY,             -- the order of arrival
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    available_at INTEGER,                -- NULL: a callback that is not yet due
    created_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    trace TEXT,
    batch_id TEXT,
    callback_delay INTEGER,              -- of a callback: how long it waits once it is due
    attempt INTEGER NOT NULL DEFAULT 0,  -- tries used up, the running one included
    kills INTEGER NOT NULL DEFAULT 0,    -- workers that died under it
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    unknown_since INTEGER,               -- when a worker first did not know its name
    worker TEXT,                         -- who runs it
    token INTEGER,                       -- fences every write of that worker
    doom TEXT,                           -- the outcome that its supervisor has decided on
    doom_delay INTEGER,                  -- until its next try after that; NULL: none
    progress_done INTEGER,
    progress_total INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    result TEXT,
    error_code TEXT,
    error_type TEXT,
    error_message TEXT
) STRICT;
CREATE INDEX job_ready ON job (queue, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX job_due ON job (available_at)
    WHERE state = 'scheduled' AND available_at IS NOT NULL;
CREATE INDEX job_running ON job (worker) WHERE state = 'running';
CREATE INDEX job_failed ON job (seq) WHERE state = 'failed';
-- Without the state, so that a job that starts or ends leaves it as it is.
CREATE INDEX job_batch ON job (batch_id)
    WHERE batch_id IS NOT NULL AND callback_delay IS NULL;
CREATE INDEX job_batch_failed ON job (batch_id)
    WHERE state = 'failed' AND callback_delay IS NULL;

-- What was accepted in one request: a batch, or jobs that are no batch.
CREATE TABLE accepted_batch (
    id TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    ids TEXT NOT NULL,                   -- of the jobs, in order, as JSON
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX accepted_batch_created ON accepted_batch (created_at);

-- Jobs and batches share one namespace of ids: a job that has a batch's is not inserted.
CREATE TRIGGER job_id_is_no_batch BEFORE INSERT ON job
WHEN EXISTS (SELECT 1 FROM accepted_batch WHERE accepted_batch.id = NEW.id)
BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TABLE batch (
    id TEXT PRIMARY KEY,
    allow_failures INTEGER NOT NULL,
    total INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    then_id TEXT,
    catch_id TEXT,
    finally_id TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX batch_finished ON batch (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE worker (
    id TEXT PRIMARY KEY,                 -- also names its lock file; never used again
    supervisor TEXT NOT NULL,
    pid INTEGER NOT NULL,
    birth TEXT NOT NULL,                 -- tells a process from a later one with its pid
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE paused_queue (
    name TEXT PRIMARY KEY,
    paused_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
