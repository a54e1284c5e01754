"""What one run leaves behind and says: its folder, checkpoints, metrics and messages."""
