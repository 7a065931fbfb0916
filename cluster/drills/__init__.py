"""Drills: a simulated platform on which something goes wrong, and a trainee who mends it with the real tools."""
