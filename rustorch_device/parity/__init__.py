"""Does a model give the same on rustorch, eager and compiled, as in eager PyTorch on the CPU?

`python -m rustorch_device.parity --help`. Each model runs inference and five training steps in every
arm; and each node of one training step runs on both devices with the same inputs ("nodes").
"""
