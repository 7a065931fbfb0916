"""What was seen of the fleet and its use, and what follows from it for each device and group."""
