"""What is seen of GPUs: readings with their age, their gaps and their owner."""
