"""A small Kubernetes API server with the real one's semantics, for tests that must not need a cluster."""
