"""What aggregator and auditor compute alike of a round: screening, the average, its comparison."""
