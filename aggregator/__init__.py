"""The aggregator: opens rounds, screens updates, averages them layer by layer and proposes."""
