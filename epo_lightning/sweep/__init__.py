"""Studies: configurations times seeds as child processes, and the search for settings."""
