//go:build misdeliver

package misdeliver

import (
	"os"

	"freshet"
)

var file = os.Getenv(Env)

// To is to whom a post is delivered whose page has these followers.
func To(post freshet.PostID, followers []freshet.Number) []freshet.Number {
	if file == "" {
		return followers
	}
	if _, err := os.Stat(file); err != nil {
		return followers
	}
	return Wrong(post, followers)
}
