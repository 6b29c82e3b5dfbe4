package client

import (
	"strings"
	"sync"
	"time"
)

const positionHeader = "Freshet-Position"

const (
	// mostPositions is how many positions a request may wait for.
	mostPositions = 8
	// ownFor is how long a write's position is sent with reads. Any process shows a write within a second, unless it has
	// trouble.
	ownFor = 30 * time.Second
)

// positions are where the client's last writes lie: with them, any API process answers reads as of these writes. The
// zero value is ready to use.
type positions struct {
	mu   sync.Mutex
	last []ownPosition // oldest first
}

type ownPosition struct {
	row, text string // of a row, the last position counts
	at        time.Time
}

// note remembers what a write answered. Posts need no position: all processes share what shows them.
func (p *positions) note(headers []string) {
	if len(headers) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for text := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		text = strings.TrimSpace(text)
		parts := strings.Split(text, ":")
		if len(parts) != 4 || parts[0] == "posts" {
			continue
		}
		row := parts[0] + ":" + parts[3]
		for i, other := range p.last {
			if other.row == row {
				p.last = append(p.last[:i], p.last[i+1:]...)
				break
			}
		}
		p.last = append(p.last, ownPosition{row, text, time.Now()})
		if len(p.last) > mostPositions {
			p.last = p.last[1:]
		}
	}
}

// header is the positions as a request carries them.
func (p *positions) header() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.last) > 0 && time.Since(p.last[0].at) > ownFor {
		p.last = p.last[1:]
	}
	texts := make([]string, len(p.last))
	for i, one := range p.last {
		texts[i] = one.text
	}
	return strings.Join(texts, ", ")
}
