package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever changes a text that a mutant replaces learns of it here, and not when the mutants are run
// the next time.
func TestMutantsReplaceTextsThatAreThere(t *testing.T) {
	root, err := moduleRoot()
	require.NoError(t, err)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			_, err := m.overlay(root, t.TempDir())
			require.NoError(t, err)
		})
	}
}

func TestUnitTestsAreOfMutants(t *testing.T) {
	for name, unit := range tests {
		require.True(t, slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == name }),
			"%s: %s", unit.test, name)
	}
}
