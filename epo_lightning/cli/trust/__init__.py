"""Which configurations of checkpoints may be used: somebody else's file is data."""
