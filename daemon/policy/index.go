package policy

import "signetd/daemon/api"

// A use is an operation on a key. The key is empty if the operation is not on a key.
type use struct {
	op  api.Op
	key string
}

// A grantIndex finds the grants for a use, in the order of the config. With it the cost
// of a request does not grow with the number of grants for other keys and operations.
type grantIndex struct {
	uses map[use][]*grant
	ops  map[api.Op][]*grant // the grants that allow an operation on at least one key
}

func indexGrants(grants []*grant) grantIndex {
	x := grantIndex{uses: map[use][]*grant{}, ops: map[api.Op][]*grant{}}
	for _, g := range grants {
		for _, op := range g.Ops {
			if _, onKey := keyOps[op]; onKey {
				x.add(op, g)
			} else {
				x.uses[use{op: op}] = appendOnce(x.uses[use{op: op}], g)
			}
		}

		// A peer that may use a key may see its public half.
		x.add(api.OpList, g)
	}
	return x
}

// add enters g as a grant of op on each of its keys.
func (x *grantIndex) add(op api.Op, g *grant) {
	for _, key := range g.Keys {
		if key == "" { // use{op, ""} would allow the operation without a key
			continue
		}
		x.uses[use{op, key}] = appendOnce(x.uses[use{op, key}], g)
		x.ops[op] = appendOnce(x.ops[op], g)
	}
}

// appendOnce appends g unless it is the last element already. Grants are indexed one
// after the other, so a duplicate can only be the last.
func appendOnce(list []*grant, g *grant) []*grant {
	if n := len(list); n > 0 && list[n-1] == g {
		return list
	}
	return append(list, g)
}

// Allows reports whether [Policy.Check] returns nil.
func (p *Policy) Allows(peer Peer, op api.Op, key string) bool {
	return anyMatches(p.index.uses[use{op, key}], peer)
}

// AllowsAny reports whether peer may do op on at least one key.
func (p *Policy) AllowsAny(peer Peer, op api.Op) bool { return anyMatches(p.index.ops[op], peer) }

func anyMatches(grants []*grant, peer Peer) bool {
	for _, g := range grants {
		if g.Peer.matches(peer) {
			return true
		}
	}
	return false
}

// Keys returns the names of the keys on which peer may do op, in no particular order.
func (p *Policy) Keys(peer Peer, op api.Op) []string {
	var names []string
	seen := map[string]bool{}
	for _, g := range p.index.ops[op] {
		if !g.Peer.matches(peer) {
			continue
		}

		for _, name := range g.Keys {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}
