package feeds

import "testing"

// A slot that moves is told from a Redis that is away.
func TestIsMoving(t *testing.T) {
	f := newFixture(t, nil)
	for said, want := range map[string]bool{
		"TRYAGAIN Multiple keys request during rehashing of slot": true, "LOADING not yet": false,
	} {
		f.mini.SetError(said)
		if err := f.conn.Do(t.Context(), &ReadBody{Post: 1}); err == nil || IsMoving(err) != want {
			t.Errorf("%v: moving is %t, want %t", err, IsMoving(err), want)
		}
	}
	f.mini.SetError("")
}
