"""What the functions cost, in time and money, beside other ways to write them."""
