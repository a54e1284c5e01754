"""What has to be known of a GPU before a long training: one command, some ten minutes, one JSON and one table."""
