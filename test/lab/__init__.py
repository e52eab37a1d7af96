"""What the system and golden tests are made of: certificates, programs, metrics, a hand-driven edge."""
