"""TIR-CMD's training: fine-tunes a TIR tracker on unlabeled RGB-TIR pairs."""
