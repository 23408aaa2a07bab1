"""What interrupts long runs, and what that costs: failure rates of fleets, and renewal theory."""
