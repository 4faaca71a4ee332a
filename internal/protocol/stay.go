package protocol

import "strconv"

// stayer is the name of whoever stands in a queue from now on; "" if they have left meanwhile, and
// nobody stands there since, or if they step aside until their next attempt.
type stayer struct {
	p     *Place
	aside *Claim // the attempt that steps aside; nil: they do not
	node  int
}

// MarshalBinary is what go-redis writes.
func (s *stayer) MarshalBinary() ([]byte, error) { return []byte(s.String()), nil }

func (s *stayer) String() string {
	p := s.place()
	if !p.waits() || s.aside != nil && p.before.Load() == s.aside {
		return ""
	}
	return p.Name
}

// place is who stands there: the one whom those before have left it to.
func (s *stayer) place() *Place {
	p := s.p
	for heir := p.heir.Load(); !p.waits() && heir != nil; heir = p.heir.Load() {
		p = heir
	}
	return p
}

// stayerTicket is the ticket of a stayer.
type stayerTicket stayer

// MarshalBinary is what go-redis writes.
func (s *stayerTicket) MarshalBinary() ([]byte, error) { return []byte(s.String()), nil }

func (s *stayerTicket) String() string {
	return strconv.FormatInt((*stayer)(s).place().Ticket.Load(), 10)
}

// stayerPatience is for how long a node waits for a stayer.
type stayerPatience stayer

// MarshalBinary is what go-redis writes.
func (s *stayerPatience) MarshalBinary() ([]byte, error) { return []byte(s.String()), nil }

func (s *stayerPatience) String() string { return (*stayer)(s).place().patienceAt(s.node) }
