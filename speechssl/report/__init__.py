"""A run folder made into one static HTML page."""
