-- Schema 2, for PostgreSQL. From the first schema: capacity kept for a tenant in a window of time.

CREATE TABLE reservation (
    id     TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    body   TEXT NOT NULL
);
CREATE INDEX reservation_by_tenant ON reservation (tenant);
UPDATE fact SET value = 2 WHERE name = 'schema';
