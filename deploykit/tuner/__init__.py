"""`tune`: the fastest file that still makes the same decisions, on this machine."""
