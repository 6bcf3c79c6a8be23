"""The fine-tuning methods: what they are (`specs`, no torch) and how they are built (`native`)."""
