package faultp11

// EmptyStats is the stats file as New makes it.
var EmptyStats = emptyStats
