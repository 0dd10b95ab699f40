"""What finders stand on: masks, tasks, tickets, scores, the registry and mask files."""
