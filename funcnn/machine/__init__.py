"""What the library asks of the machine: threads, BLAS's threads, and memory that is used again."""
