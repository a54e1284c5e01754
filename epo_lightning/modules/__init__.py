"""Lightning: the module that learns and the datamodule that feeds it."""
