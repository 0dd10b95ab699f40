"""The commands of the front door, each importing what it needs when it is called."""
