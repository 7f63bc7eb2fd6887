"""What a user asks before a run: describe, bench, doctor."""
