"""What tools/bench.py measures: our operations, those of other libraries, and a plain copy, in one process."""
