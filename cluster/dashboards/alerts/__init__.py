"""Alerts as code: what is wrong, how bad, for how long, and the page that says what to do."""
