package protocol

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
)

// A lock key holds the token of its owner: 128 random bits, a colon, and the owner's label for
// people to read. Once the owner has shortened the lock, the number of the latest shortening stands
// in front, as in 3~token: see scripts/extend.lua. Random bits as they are written here have no ~
// in them, so the two cannot be confused.

const tokenBytes = 16 // 128 random bits

var encodedBytes = base64.RawURLEncoding.EncodedLen(tokenBytes)

// NewToken returns a value that nobody else has, with the owner's label behind it.
func NewToken(label string) string {
	var random [tokenBytes]byte
	rand.Read(random[:]) // never fails
	token := make([]byte, 0, encodedBytes+1+len(label))
	token = base64.RawURLEncoding.AppendEncode(token, random[:])
	token = append(append(token, ':'), label...)
	return string(token)
}

// Label returns the owner's label in a lock key's value, and whether the value is one of this
// library's.
func Label(value string) (label string, ours bool) {
	token := withoutNumber(value)
	if len(token) <= encodedBytes || token[encodedBytes] != ':' {
		return "", false
	}
	if _, err := base64.RawURLEncoding.DecodeString(token[:encodedBytes]); err != nil {
		return "", false
	}
	return token[encodedBytes+1:], true
}

// withNumber returns the value of a lock key whose owner has shortened the lock that often.
func withNumber(token string, number int) string {
	if number == 0 {
		return token
	}
	return strconv.Itoa(number) + "~" + token
}

// withoutNumber returns the token in a lock key's value. A lock that was shortened, adopted by its
// value and shortened again has a number of either owner's in front.
func withoutNumber(value string) string {
	for {
		number, token, found := strings.Cut(value, "~")
		if !found || !isNumber(number) {
			return value
		}
		value = token
	}
}

// own reports whether a lock key's value is the claim's token, behind any number.
func (c *Claim) own(value string) bool {
	number, ours := strings.CutSuffix(value, "~"+c.token)
	return value == c.token || ours && isNumber(number)
}

func isNumber(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }
