"""What will be asked, of whom, when: pure and seeded."""
