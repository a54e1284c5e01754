"""How the actions of an evaluation are chosen: by the names of its file, in words."""

ACTION_KINDS = {"mean": "mean actions", "drawn": "drawn actions"}
