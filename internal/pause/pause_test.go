package pause

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestFor(t *testing.T) {
	begun := time.Now()
	if err := For(t.Context(), time.Millisecond); err != nil || time.Since(begun) < time.Millisecond {
		t.Errorf("%v after %s, of a millisecond", err, time.Since(begun))
	}
	if err := For(t.Context(), -1); err != nil {
		t.Error(err)
	}
	ending, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := For(ending, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, when the context ended", err)
	}
	for _, d := range []time.Duration{-1, 0, time.Hour} {
		if err := For(ending, d); !errors.Is(err, context.Canceled) {
			t.Errorf("%v for %s, of a context that had ended", err, d)
		}
	}
}
