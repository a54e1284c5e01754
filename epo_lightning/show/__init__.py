"""Seeing agents: playback, films, the viewer."""
