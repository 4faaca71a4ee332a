package main

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
)

// decodeDuration reads the value of a flag that is a duration.
func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("duration")
	if err != nil {
		return err
	}
	d, err := parseDuration(token.String())
	if err != nil {
		return err
	}
	target.SetInt(int64(d))
	return nil
}

// parseDuration reads plain seconds, as sleep(1) takes them, and what Go writes: 1m30s.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		seconds, numErr := strconv.ParseFloat(text, 64)
		if numErr != nil || math.IsNaN(seconds) ||
			math.Abs(seconds) > math.MaxInt64/float64(2*time.Second) {
			return 0, fmt.Errorf("%q is not a duration: write seconds (90, 0.5) or units (1m30s, "+
				"500ms)", text)
		}
		d = time.Duration(math.Round(seconds * float64(time.Second)))
	}
	if d < 0 {
		return 0, fmt.Errorf("a duration must not be negative, but is %q", text)
	}
	return d, nil
}
