"""peftbench: which parameter-efficient fine-tuning method, on this model, under this budget, how surely."""
