"""Parameters and how they move: networks, normalisers, the optimizer."""
