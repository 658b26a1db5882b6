"""What every frozen config shares: bounds of its fields, their flags, their JSON."""
