package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"signetd/daemon/config"
	"signetd/signer"
	"signetd/signer/p256"
)

const (
	// pingTimeout is how long a backend may take to say that it is there, after one of its
	// keys could not be opened.
	pingTimeout = 2 * time.Second
	// longestInVain is how long the keys of one backend that answers may take in one round
	// without being opened: one key that hangs for openTimeout, and not a second one.
	longestInVain = openTimeout + openTimeout/2
)

// A round is one look at all that is to be opened.
type round struct {
	// away has the backends that do not answer, and why. They are not asked again in this
	// round: a backend must not cost a timeout for each of its keys.
	away map[string]error
	// inVain is how long the keys of a backend took that were not opened.
	inVain map[string]time.Duration
}

func newRound() round {
	return round{away: map[string]error{}, inVain: map[string]time.Duration{}}
}

// A plan is a version as the config has it.
type plan struct {
	keyName  string
	at       string // its place in the config
	places   []config.Place
	placesAt []string // the place in the config of each of places
	config   signer.VersionConfig
}

// plan reads a version and opens nothing.
func (g *generation) plan(at string, key config.Key, v config.Version) (*plan, error) {
	p := &plan{keyName: key.Name, at: at, places: v.Places(), placesAt: []string{at}}
	if len(v.Refs) > 0 {
		if v.Backend != "" || v.Ref != "" {
			return nil, g.file.Invalid(at+".refs", "either refs, or backend and ref, but not both")
		}
		p.placesAt = nil
		for i := range v.Refs {
			p.placesAt = append(p.placesAt, fmt.Sprintf("%s.refs[%d]", at, i))
		}
	}

	p.config = signer.VersionConfig{
		KID: v.KID, Algs: key.Algs, NotBefore: v.NotBefore.Time,
		SkipVerify: key.Verify != nil && !*key.Verify, VerifyES256: p256.Verifier,
	}
	for i, place := range p.places {
		if _, ok := g.backends[place.Backend]; !ok {
			return nil, g.file.Invalid(p.placesAt[i]+".backend", "no backend is named %.64q", place.Backend)
		}
		if first := slices.Index(p.places, place); first < i {
			return nil, g.file.Twice(p.placesAt[i], p.placesAt[first])
		}
		p.config.Places = append(p.config.Places, signer.PlaceConfig{
			Backend:  place.Backend,
			Observe:  g.keyring.metrics.ObserveBackend(place.Backend),
			Changed:  func(err error) { g.logChange(key.Name, place.Backend, err) },
			Failover: func() { g.keyring.metrics.ObserveFailover(key.Name, place.Backend) },
		})
	}
	return p, nil
}

// logChange logs that a place went away, with the reason, or that it is back.
func (g *generation) logChange(key, backend string, err error) {
	if err == nil {
		g.log.Info("backend is back", "key", key, "backend", backend)
		return
	}
	g.log.Warn("backend away: its requests go to another place or version of the key, if there is one", "key", key, "backend", backend, "err", err)
}

// openKey opens the versions of key i of the config, and notes which of their places are
// missing.
func (g *generation) openKey(ctx context.Context, i int, key config.Key) (signer.NamedKey, error) {
	named := signer.NamedKey{Name: key.Name}
	for j, entry := range key.Versions {
		at := fmt.Sprintf("$.keys[%d].versions[%d]", i, j)
		versions, err := g.expand(ctx, at, key.Name, entry)
		if err != nil {
			return named, err
		}

		for _, one := range versions {
			p, err := g.plan(at, key, one)
			if err != nil {
				return named, err
			}
			v, missing, err := g.openVersion(ctx, p)
			if err != nil {
				return named, err
			}
			for _, m := range missing {
				m.key, m.version = i, len(named.Versions)
			}
			g.missing = append(g.missing, missing...)
			named.Versions = append(named.Versions, v)
		}
	}
	return named, nil
}

// openVersion opens every place of p and makes the version of those that answer. The
// others are missing.
func (g *generation) openVersion(ctx context.Context, p *plan) (*signer.Version, []*missingPlace, error) {
	keys := make([]signer.Key, len(p.places))
	var missing []*missingPlace
	for i := range p.places {
		var err error
		if keys[i], err = g.openPlace(ctx, p, i); err == nil {
			continue
		}
		if !g.tolerates(ctx, err) {
			return nil, nil, err
		}
		missing = append(missing, &missingPlace{plan: p, place: i, err: err})
	}

	v, refused, err := g.assemble(ctx, p, keys)
	return v, append(missing, refused...), err
}

// openPlace opens the key in place i of p and uses it once with each algorithm.
func (g *generation) openPlace(ctx context.Context, p *plan, i int) (signer.Key, error) {
	place := p.places[i]
	if err := g.round.away[place.Backend]; err != nil {
		return nil, g.file.At(p.placesAt[i], fmt.Errorf("key %q: %w", p.keyName, err))
	}

	limited, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	start := time.Now()
	at := p.placesAt[i] + ".ref"
	key, err := g.backends[place.Backend].OpenKey(limited, place.Ref)
	if err == nil {
		at = p.placesAt[i]
		err = prove(limited, p, i, key)
	}
	if err != nil {
		if g.tolerates(ctx, err) {
			g.suspect(ctx, place.Backend, time.Since(start))
		}
		return nil, g.file.At(at, fmt.Errorf("key %q: %w", p.keyName, err))
	}

	g.keyring.remember(placeOfKey{p.keyName, place}, key.Public())
	return key, nil
}

// prove uses key once with each algorithm of p.
func prove(ctx context.Context, p *plan, i int, key signer.Key) error {
	c := p.config
	c.Places = []signer.PlaceConfig{{Backend: c.Places[i].Backend, Observe: c.Places[i].Observe}}
	v, err := signer.NewVersion(key, c)
	if err != nil {
		return err
	}
	return v.Prove(ctx)
}

// suspect finds out whether a backend is away, after one of its keys took so long and was
// not opened. A key that is disabled, or that the daemon may not use, must cost itself
// alone: the keys after it are tried if the backend answers.
func (g *generation) suspect(ctx context.Context, backend string, took time.Duration) {
	limited, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := g.backends[backend].Ping(limited)
	if err != nil && !errors.Is(err, signer.ErrOverloaded) {
		g.round.away[backend] = fmt.Errorf("backend %q does not answer: %w", backend, err)
		return
	}

	g.round.inVain[backend] += took
	if g.round.inVain[backend] >= longestInVain {
		g.round.away[backend] = fmt.Errorf("%w: backend %q answers, but not for its keys", signer.ErrUnavailable, backend)
	}
}

// assemble makes the version of p out of its keys, of which some may be nil. The public
// half is that of the first key there is, or else of the key that was last open in a place
// of p.
func (g *generation) assemble(ctx context.Context, p *plan, keys []signer.Key) (*signer.Version, []*missingPlace, error) {
	c := p.config
	for i, place := range p.places {
		if keys[i] != nil {
			c.Public = keys[i].Public()
			break
		}
		if c.Public == nil {
			c.Public = g.keyring.remembered(placeOfKey{p.keyName, place})
		}
	}

	// A key that was opened by a ref of several versions is active from when it was made.
	if dated, ok := keys[0].(signer.Dated); ok && len(keys) == 1 && dated.NotBefore().After(c.NotBefore) {
		c.NotBefore = dated.NotBefore()
	}

	v, err := signer.NewVersion(nil, c)
	if err != nil {
		return nil, nil, g.file.At(p.at, fmt.Errorf("key %q: %w", p.keyName, err))
	}
	var missing []*missingPlace
	for i, key := range keys {
		if key == nil {
			continue
		}
		if err := v.Join(ctx, i, key); err != nil {
			err = g.file.At(p.placesAt[i], fmt.Errorf("key %q: %w", p.keyName, err))
			if !g.tolerates(ctx, err) {
				return nil, nil, err
			}
			missing = append(missing, &missingPlace{plan: p, place: i, err: err})
		}
	}
	return v, missing, nil
}
