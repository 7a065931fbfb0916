"""The console in the browser: what each kind of user wants to see, drawn from one scene."""
