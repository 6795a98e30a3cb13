"""TIR-CMD's training: unlabelled pairs in, a tuned TIR tracker out."""
