"""A policy as files that need no training stack: the network, what its numbers mean, the proof that it acts alike."""
