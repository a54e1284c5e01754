"""Pages of the Allegro-Kuka tasks: their own rules as files of ONNX around MuJoCo's build for browsers."""
