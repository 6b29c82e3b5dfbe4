package audit

// Watch is one over the copies of s, which begins anew in dir.
func (s *Sources) Watch(rate float64, counts *Counts, dir string) (*Watch, error) {
	cfg := s.cfg
	cfg.Dir, cfg.Store = dir, s.store
	return NewWatch(Watch{Rate: rate, Config: cfg, Rows: s.rows, Accounts: s.accounts, Tiers: s.tiers, Counts: counts})
}
