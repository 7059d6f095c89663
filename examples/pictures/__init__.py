"""How the example's ads look: shapes, scenes made of them, and the advertisers' brands."""
