"""Which replicas are granted and where, and who moves or leaves for them."""
