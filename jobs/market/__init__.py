"""Who gets which job: providers, the auction, leases."""
