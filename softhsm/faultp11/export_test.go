package faultp11

// EmptyStats returns the stats file as New makes it.
var EmptyStats = emptyStats
