package gcpkms

// Known returns all algorithms in the table, those without a use among them.
func Known() (names []string) {
	for _, r := range rows {
		names = append(names, r.Algorithm)
	}
	return names
}
