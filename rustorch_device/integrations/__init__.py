"""What switches libraries to the device that hold lists of devices' names: each imported by who uses it.

docs/libraries.md shows the lines.
"""
