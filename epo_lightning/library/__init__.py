"""The front door for Python, `from epo_lightning import train, load_policy, Run`: what the command line does."""
