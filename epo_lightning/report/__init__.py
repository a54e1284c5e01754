"""Runs side by side: what their folders hold, read, grouped, compared, and written as a page."""
