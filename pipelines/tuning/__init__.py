"""The search for a recipe's best values: space, oracle, trials and report."""
