package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rediskit/redlock/monitoring/board"
)

// A server that has three values for each query draws every panel of the dashboard.
func TestEveryPanelIsDrawn(t *testing.T) {
	to := time.Unix(1_800_000_000, 0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.NotContains(t, r.FormValue("query"), "$")
		fmt.Fprintf(w,
			`{"data":{"result":[{"metric":{"group":"a<b","outcome":"held"},"values":[[%d,"1.5"],[%d,"NaN"],[%d,"-2"]]}]}}`,
			to.Unix()-60, to.Unix()-30, to.Unix())
	}))
	defer server.Close()
	d, err := board.Load("../dashboard.json")
	require.NoError(t, err)
	p := picture{base: server.URL, job: "shop", interval: time.Minute, from: to.Add(-time.Minute),
		to: to}
	require.NoError(t, p.draw(context.Background(), d))
	text := p.svg.String()
	for _, panel := range d.Panels {
		require.Contains(t, text, ">"+panel.Title+"<")
		require.Equal(t, len(panel.Targets), strings.Count(pieceOf(text, panel.Title),
			`stroke-width="1.3"`), panel.Title)
	}
	require.Contains(t, text, "a&lt;b")
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
}

// pieceOf returns what is drawn after a title and before the next panel.
func pieceOf(text, title string) string {
	_, rest, _ := strings.Cut(text, ">"+title+"<")
	piece, _, _ := strings.Cut(rest, `stroke="#ddd"`)
	return piece
}

func TestErrorsOfTheServerAreTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"status":"error","error":"no such function"}`)
	}))
	defer server.Close()
	d, err := board.Load("../dashboard.json")
	require.NoError(t, err)
	p := picture{base: server.URL, from: time.Now().Add(-time.Minute), to: time.Now()}
	require.ErrorContains(t, p.draw(context.Background(), d), "no such function")
}

func TestScales(t *testing.T) {
	for least, want := range map[float64]float64{1: 1, 1.1: 2, 2.5: 5, 7: 10, .015: .02, 400: 500} {
		require.InEpsilon(t, want, niceStep(least), 1e-9, least)
	}
	require.Equal(t, []string{"0 s", "5 ms", "1.5 s", "66 %", "3 /s", "-1"},
		[]string{value(0, "s"), value(.005, "s"), value(1.5, "s"), value(.66, "percentunit"),
			value(3, "ops"), value(-1, "short")})
}
