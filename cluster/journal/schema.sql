-- Schema 1. STRICT tables: a wrong type is an error, not a conversion. JSON bodies are canonical (policies.model.codec).

CREATE TABLE fact (                     -- single values: fencing, claim_floor, claims_version, adopted
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

CREATE TABLE memory (                   -- memory of the last decision
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL
) STRICT;

CREATE TABLE policy (                   -- every revision ever in force; the newest row is in force
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX policy_by_digest ON policy (digest);

CREATE TABLE claim (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    generation INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;
CREATE INDEX claim_by_tenant ON claim (tenant);

CREATE TABLE api_key (
    prefix TEXT PRIMARY KEY,
    domain TEXT NOT NULL,
    tenant TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX api_key_by_tenant ON api_key (tenant);

CREATE TABLE device (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE proof (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;

CREATE TABLE cordon (                   -- what an operator took out of use
    subject TEXT PRIMARY KEY,
    body    TEXT NOT NULL
) STRICT;

CREATE TABLE decision (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    plan_id         TEXT NOT NULL,
    fencing         INTEGER NOT NULL,
    at_ms           INTEGER NOT NULL,
    policy_digest   TEXT NOT NULL,
    snapshot_digest TEXT NOT NULL,
    decision_digest TEXT NOT NULL,
    plan            TEXT NOT NULL,
    decision        BLOB NOT NULL,      -- zlib of the JSON, like the next two
    snapshot        BLOB,               -- null once beyond retention
    memory_before   BLOB,
    outcome         TEXT,               -- null until settled
    size            INTEGER NOT NULL
) STRICT;
CREATE INDEX decision_by_plan ON decision (plan_id);

CREATE TABLE declaration (              -- what one person declared and another may approve
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE answer (                   -- answers kept for an Idempotency-Key
    caller  TEXT NOT NULL,
    key     TEXT NOT NULL,
    request TEXT NOT NULL,
    at_ms   INTEGER NOT NULL,
    body    TEXT,                       -- null while the first request is still in progress
    PRIMARY KEY (caller, key)
) STRICT;

CREATE TABLE audit (                    -- append-only; each hash covers the record and the hash before it
    seq      INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    tenant   TEXT,                      -- who else than operators and auditors may read it
    body     TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash     TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_never_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

INSERT INTO fact VALUES ('fencing', 0), ('claim_floor', 0), ('claims_version', 0), ('adopted', 0);
