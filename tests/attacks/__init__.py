"""What attackers have sent: every input is answered within a bound of time and memory."""
