//go:build go1.25

package protocol

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Among several things that a reply has may be a token.
func TestUnexpectedReplyIsShownByItsShape(t *testing.T) {
	for want, reply := range map[string]any{
		`unexpected reply "7"`:                       int64(7),
		`unexpected reply "what?"`:                   "what?",
		`unexpected reply [string(25) int64 nil []]`: []any{token, int64(1), nil, []any{}},
		`unexpected reply bool`:                      true,
	} {
		require.EqualError(t, errUnexpected(reply), want)
	}
}
