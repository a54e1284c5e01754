"""What files and flags say: read strictly, brought to one meaning, and what is wrong told in one line."""
