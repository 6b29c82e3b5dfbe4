// Package misdeliver makes fan-out deliver posts to the wrong accounts, for tests of what finds and repairs that.
//
// Only a program built with the tag misdeliver can do it, and does it for as long as there is the file that the
// variable Env of its environment named when it started. In all other programs To returns what it is given.
//
//	rule.go  who gets a post then: tests compute the damage by it
//	on.go    with the tag
//	off.go   without
package misdeliver

import "freshet"

// Env is the variable of the environment that names the file.
const Env = "FRESHET_MISDELIVER"

// Wrong is who gets a post instead of its followers: a tenth of them do not, and for another tenth the account with the
// neighbouring number gets it, too. What becomes of a follower does not depend on who the others are.
func Wrong(post freshet.PostID, followers []freshet.Number) []freshet.Number {
	wrong := make([]freshet.Number, 0, len(followers)+len(followers)/8+1)
	for _, follower := range followers {
		switch mix(uint64(post)^mix(uint64(follower))) % 10 {
		case 0:
		case 1:
			wrong = append(wrong, follower, follower^1)
		default:
			wrong = append(wrong, follower)
		}
	}
	return wrong
}

// mix is the finaliser of SplitMix64.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
