"""What stands from one decision to the next, so that only what changed is laid out anew."""
