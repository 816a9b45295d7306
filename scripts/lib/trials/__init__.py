"""What do the experiments consist of? `setups` says what is started and what load it gets, `recovery` breaks things
and waits, `shown` makes tables and drawings of the numbers."""
