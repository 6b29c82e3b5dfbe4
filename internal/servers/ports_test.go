package servers

import (
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
)

func reserve(t *testing.T, file string, count int) *ports {
	t.Helper()
	p, err := reservePorts(file, count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.release(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestPortsStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports")
	first := reserve(t, file, 3)
	numbers := slices.Clone(first.numbers)
	if _, err := reservePorts(file, 3); !errors.Is(err, ErrPortsTaken) {
		t.Errorf("reserved by somebody else: got %v, want %v", err, ErrPortsTaken)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	second := reserve(t, file, 3)
	if !slices.Equal(second.numbers, numbers) {
		t.Errorf("the ports were %v and are %v", numbers, second.numbers)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", loopback(numbers[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reservePorts(file, 3); !errors.Is(err, ErrPortsTaken) {
		t.Errorf("somebody listens: got %v, want %v", err, ErrPortsTaken)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reservePorts(file, 2); err == nil {
		t.Error("the directory of a server with more ports was taken")
	}
}

func TestPortsAreNeverSharedWithin(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		for _, port := range reserve(t, filepath.Join(t.TempDir(), "ports"), 2).numbers {
			if seen[port] || port < firstPort || port > lastPort {
				t.Errorf("port %d: twice, or out of range", port)
			}
			seen[port] = true
		}
	}
}
