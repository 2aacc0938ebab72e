"""Opening what a page is about: a run folder, or data alone."""
