"""The leaderboard as a static site that opens from its folder, without a network."""
