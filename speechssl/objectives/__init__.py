"""Pretext tasks, one a file: a loss, its heads, its numbers."""
