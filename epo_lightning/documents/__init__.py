"""Texts of configurations and studies: YAML that means one thing, keys with dots, and misspelt words."""
