"""The PyTorch network: how a user names it, its inputs and outputs, its checkpoint."""
