"""What a student learns from a teacher: what networks show, what compares it, and a teacher that is asked once."""
