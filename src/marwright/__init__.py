"""What you ship answers as your PyTorch model does, or you are told which layer does not."""
