"""What the library asks of the machine: threads, BLAS's threads, memory to use again, arithmetic."""
