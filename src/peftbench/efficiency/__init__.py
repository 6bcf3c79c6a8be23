"""What a method costs: predicted from a model's dimensions (`plan`), measured on a device (`profile`).

`cost` holds what is said about costs, `models` and `devices` what is known beforehand; those load no torch.
"""
