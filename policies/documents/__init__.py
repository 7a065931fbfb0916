"""What people write, policies and claims: read strictly, and every fault told with its place."""
