"""The command serfeat: the only code that prints or draws progress."""
