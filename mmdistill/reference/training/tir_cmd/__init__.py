"""TIR-CMD's training: unlabeled pairs in, a tuned TIR tracker out."""
