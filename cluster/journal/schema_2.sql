-- Schema 2. From the first schema: capacity kept for a tenant in a window of time.

CREATE TABLE reservation (
    id     TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX reservation_by_tenant ON reservation (tenant);
