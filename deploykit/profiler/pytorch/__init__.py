"""A PyTorch network: its layers counted while it runs on tensors without data, and timed by hooks."""
