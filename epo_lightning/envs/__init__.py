"""Vectorised environments: the contract (`base`), torch-native tasks (`classic`) and the Allegro-Kuka tasks."""
