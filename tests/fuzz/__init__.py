"""Random programs, eager and compiled, on the CPU and on rustorch: all do what CPU eager does."""
