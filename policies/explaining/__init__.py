"""What a decision says: placements, evictions and, for each claim, why."""
