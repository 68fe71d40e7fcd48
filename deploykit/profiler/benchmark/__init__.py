"""Whole runs, timed: processes of their own, rounds that interleave, the machine's conditions and its measured peak."""
