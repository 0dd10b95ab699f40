"""The statistics of a leaderboard: means, tests, ranks and comparisons, from a frame of runs."""
