"""What each claim asks for now, or why it asks for nothing."""
