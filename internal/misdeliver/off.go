//go:build !misdeliver

package misdeliver

import "freshet"

// To returns followers.
func To(_ freshet.PostID, followers []freshet.Number) []freshet.Number { return followers }
