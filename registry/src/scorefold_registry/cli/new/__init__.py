"""``scorefold new``: rendering templates and bringing projects up to date."""
