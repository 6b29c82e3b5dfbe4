package views

import (
	"testing"

	"freshet"
)

func TestAccountCache(t *testing.T) {
	c := newAccountCache(3)
	kept := func(n freshet.Number) freshet.AccountID {
		account, ok, _ := c.get(n)
		if ok != (account.ID != "") {
			t.Fatalf("number %d: %v, %+v", n, ok, account)
		}
		return account.ID
	}
	put := func(n freshet.Number, id freshet.AccountID) {
		_, _, ticket := c.get(n)
		c.put(n, freshet.Account{ID: id, Number: n}, ticket)
	}
	put(1, "ada")
	put(2, "ada") // its id was registered again
	put(3, "bob")
	if kept(1) != "ada" || kept(2) != "ada" || kept(3) != "bob" || kept(4) != "" {
		t.Fatal("what was put is not kept")
	}
	c.invalidate("ada")
	if kept(1) != "" || kept(2) != "" || kept(3) != "bob" {
		t.Error("a row has changed, and what came from it is kept, or other accounts are not")
	}
	c.invalidate(freshet.NumberKey(3))
	if kept(3) != "" {
		t.Error("the row of a number has changed, and its account is kept")
	}

	_, _, ticket := c.get(5)
	c.invalidate("eve")
	c.put(5, freshet.Account{ID: "eve", Number: 5}, ticket)
	if kept(5) != "" {
		t.Error("an account is kept that was read before its row changed")
	}

	for n := range freshet.Number(10) {
		put(n, "many")
		if len(c.byNumber) > 3 || kept(n) != "many" {
			t.Fatalf("%d accounts are kept", len(c.byNumber))
		}
	}
}
