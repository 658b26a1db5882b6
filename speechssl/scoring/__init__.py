"""How well it went: word and character error rates with intervals."""
