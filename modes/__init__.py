"""What each --mode does: one file a mode, whose run(flags) main.py calls with the flags in USES."""
