"""The frame of runs: stores read into one pandas frame, and the frame written as files."""
