"""One file a command: its options in `arguments(parser)`, its work in `run(args)`."""
